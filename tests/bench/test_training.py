import json
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from grfd.bench.training import as_row, matrix_rate, measure_stage_one, rate_table
from grfd.config import Config
from grfd.errors import UserError
from grfd.models.wide_resnet import wide_resnet_named

SMALL = Config(data="cifar10", model="wrn-10-1", latent=8, batch=4, device="cpu")


def test_operations_are_counted_and_beside_the_devices_rate(capsys: pytest.CaptureFixture[str]) -> None:
    rate = measure_stage_one(SMALL, steps=2)
    assert rate.batch == 4 and rate.steps == 2 and rate.device.endswith("threads")
    assert rate.images_per_second == pytest.approx(4 / rate.seconds)
    row = as_row(rate)
    assert row["share"] == pytest.approx(row["tflops"] / row["device_tflops"])
    # both points of eq. 5 and two gradients through each: far more than an answer, and counted an image
    assert rate.gflop_an_image > 9 * rate.gflop_an_answer * 0.9
    assert rate.gflop_an_image * rate.images_per_second / 1e3 == pytest.approx(rate.tflops)
    assert rate.device_tflops > 0 and rate.peak_gib > 0.1
    assert rate_table(rate).row_count == 10


def test_operations_grow_with_the_batch() -> None:
    """A step's work is its batch's: what is counted in a second, times the seconds, doubles."""
    small = measure_stage_one(SMALL, steps=1)
    large = measure_stage_one(Config(**{**vars(SMALL), "batch": 8}), steps=1)
    work = [rate.tflops * rate.seconds for rate in (small, large)]
    assert work[1] == pytest.approx(2 * work[0], rel=0.02)
    with FlopCounterMode(display=False) as once:
        wide_resnet_named("wrn-10-1", channels=3, classes=10, height=32, width=32)(torch.rand(4, 3, 32, 32))
    # both points of eq. 5, their gradients, and the gradient of those: at least nine times one forward pass
    assert work[0] * 1e12 > 9 * once.get_total_flops()


def test_the_matrix_rate_is_of_the_precision() -> None:
    assert matrix_rate(torch.device("cpu"), "float32") > 1e8


def test_a_mistake_is_one_line() -> None:
    with pytest.raises(UserError, match="data 'folder': expected one of mnist"):
        measure_stage_one(Config(data="folder"), steps=1)
    with pytest.raises(UserError, match="steps must be at least 1"):
        measure_stage_one(SMALL, steps=0)


def test_the_command_prints_json() -> None:
    command = [sys.executable, "-m", "grfd.cli", "bench", "train", "quick", "--batch", "8", "--steps", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["batch"] == 8
