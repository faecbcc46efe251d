"""`grfd export`: the written files answer like the defense, also in a process without grfd."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import grfd
from grfd.api.exporting import FORMATS, export
from grfd.data.record import as_images
from grfd.errors import UserError

RUN = Path(__file__).parents[1] / "results/threat-models/short-seed-0"

WITHOUT_GRFD = """
import sys
sys.modules["grfd"] = None  # an import of it raises
import numpy as np, torch
images = torch.from_numpy(np.load(sys.argv[2]))
if sys.argv[1].endswith(".pt2"):
    with torch.no_grad():
        logits = torch.export.load(sys.argv[1]).module()(images).numpy()
else:
    import onnxruntime
    session = onnxruntime.InferenceSession(sys.argv[1])
    (logits,) = session.run(None, {"images": images.numpy()})
np.save(sys.argv[3], logits)
"""


@pytest.mark.parametrize("format", ["pt2", "onnx"])
@pytest.mark.parametrize("defense", ["grfd", "bit-depth"])
def test_the_file_answers_in_a_process_without_grfd(
    defense: str, format: str, mnist: grfd.Data, tmp_path: Path
) -> None:
    written = export(RUN, defense, tmp_path / "out", format)
    assert [file.name for file in written] == [f"model.{format}", "classes.json", "README.md"]
    images = as_images(mnist.test.images[100:133])
    np.save(tmp_path / "images.npy", images.numpy())
    arguments = [str(written[0]), str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")]
    subprocess.run([sys.executable, "-c", WITHOUT_GRFD, *arguments], check=True, cwd=tmp_path, capture_output=True)
    with torch.no_grad():
        expected = grfd.load_defense(RUN, defense=defense)(images)
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "logits.npy")), expected, rtol=1e-3, atol=1e-3)
    assert json.loads(written[1].read_text()) == list(mnist.classes)


def test_the_card_gives_the_verdict_of_the_run(tmp_path: Path) -> None:
    card = export(RUN, "grfd", tmp_path / "out", "safetensors")[2].read_text()
    assert card.startswith("---\nlibrary_name: grfd\n") and "| adaptive | L∞, ε = 0.1 |" in card
    worst = next(
        row
        for row in grfd.results(RUN).rows
        if (row.model, row.protocol, row.attack, row.norm, row.eps) == ("grfd", "adaptive", "worst", "linf", 0.1)
    )
    low, high = worst.interval
    assert f"{100 * worst.accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}]" in card


def test_the_weights_load_into_the_network(tmp_path: Path) -> None:
    file = export(RUN, "pgd-at", tmp_path / "out", "safetensors")[0]
    network = grfd.load_defense(RUN, defense="pgd-at")
    from safetensors.torch import load_file

    network.load_state_dict(load_file(file))


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    export(RUN, "standard", tmp_path, "safetensors")
    with pytest.raises(UserError, match="already there: choose another folder"):
        export(RUN, "standard", tmp_path, "safetensors")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/README.md").write_text("my own notes")
    with pytest.raises(UserError, match=r"README.md is already there"):
        export(RUN, "standard", tmp_path / "mine", "safetensors")
    assert (tmp_path / "mine/README.md").read_text() == "my own notes"
    assert not (tmp_path / "mine/model.safetensors").exists()
    with pytest.raises(UserError, match="unknown format 'h5': expected one of pt2, onnx, safetensors"):
        export(RUN, "standard", tmp_path / "other", "h5")
    assert not (tmp_path / "other").exists() and set(FORMATS) == {"pt2", "onnx", "safetensors"}
    with pytest.raises(UserError, match="randomized-smoothing"):
        export(RUN, "randomized-smoothing", tmp_path / "other")
