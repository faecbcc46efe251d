import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from grfd import runs
from grfd.config import Config
from grfd.errors import UserError
from grfd.seeds import normal_like
from grfd.training.loop import Optimisation, fit_objective

RATE = 0.05


class Linear(nn.Module):
    """Least squares with noise in the forward pass, so that the random stream matters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 2)

    def forward(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, Tensor]:
        logits = self.layer(images.flatten(1) + 0.1 * torch.randn(len(images), 4))
        return {"loss": nn.functional.cross_entropy(logits, labels, reduction="none"), "other": logits[:, 0]}


IMAGES = torch.rand(50, 1, 2, 2, generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES.flatten(1).sum(1) > 2).long()


def inputs(epoch: int) -> tuple[Tensor, Tensor]:
    return IMAGES, LABELS


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    return runs.create(tmp_path / "run", Config(batch=16, device="cpu"))


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_it_learns_and_logs_every_term(run: runs.Run) -> None:
    model = fit_objective(run, "a", Linear(), inputs, Optimisation(60, RATE))
    assert (model.layer(IMAGES.flatten(1)).argmax(1) == LABELS).float().mean() >= 0.9
    rows = [json.loads(line) for line in run.file("metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 61))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert set(rows[0]) == {"stage", "epoch", "loss", "other", "seconds"}


class Noisy(Linear):
    """The same with noise that knows of the whole batch."""

    def forward(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, Tensor]:
        flat = images.flatten(1)
        logits = self.layer(flat + 0.1 * normal_like(flat))
        return {"loss": nn.functional.cross_entropy(logits, labels, reduction="none")}


@pytest.mark.parametrize("passes", [2, 5])
def test_passes_add_up_to_the_batch(tmp_path: Path, passes: int) -> None:
    """50 images in batches of 16: the last batch is of 2, fewer than five passes."""
    found = []
    for count in (1, passes):
        folder = runs.create(tmp_path / f"{count}", Config(batch=16, passes=count, device="cpu"))
        found.append(weights(fit_objective(folder, "a", Noisy(), inputs, Optimisation(6, RATE))))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=2e-5)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_stopped_in_any_epoch_it_ends_with_the_same_bits(run: runs.Run, tmp_path: Path, stop: int) -> None:
    whole = fit_objective(run, "a", Linear(), inputs, Optimisation(4, RATE))

    def stopping(epoch: int) -> tuple[Tensor, Tensor]:
        if epoch == stop and stopping.calls:  # type: ignore[attr-defined]
            raise Stopped
        stopping.calls += 1  # type: ignore[attr-defined]
        return IMAGES, LABELS

    stopping.calls = 0  # type: ignore[attr-defined]
    other = runs.create(tmp_path / "other", run.config)
    with pytest.raises(Stopped):
        fit_objective(other, "a", Linear(), stopping, Optimisation(4, RATE))
    again = fit_objective(other, "a", Linear(), inputs, Optimisation(4, RATE))
    assert torch.equal(weights(whole), weights(again))
    kept = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in file.read_text().splitlines()]
        for file in (run.file("metrics.jsonl"), other.file("metrics.jsonl"))
    ]
    assert kept[0] == kept[1]


def test_the_caller_s_random_stream_is_left_alone(run: runs.Run) -> None:
    torch.manual_seed(5)
    model = Linear()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit_objective(run, "a", model, inputs, Optimisation(1, RATE))
    assert torch.equal(torch.rand(3), expected)


def test_names_have_streams_of_their_own(run: runs.Run) -> None:
    assert not torch.equal(
        weights(fit_objective(run, "a", Linear(), inputs, Optimisation(1, RATE))),
        weights(fit_objective(run, "b", Linear(), inputs, Optimisation(1, RATE))),
    )


def test_a_loss_that_is_not_finite_stops_with_one_line(run: runs.Run) -> None:
    class Broken(Linear):
        def forward(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, Tensor]:
            terms = super().forward(images, labels, progress)
            return terms | {"other": terms["other"] / 0} if progress > 0 else terms

    with pytest.raises(UserError, match=r"a: other is -?(inf|nan) in epoch 2; the last whole epoch is kept"):
        fit_objective(run, "a", Broken(), inputs, Optimisation(3, RATE))
    assert run.has("checkpoints/a.safetensors")


def test_a_truncated_checkpoint_is_named(run: runs.Run) -> None:
    fit_objective(run, "a", Linear(), inputs, Optimisation(1, RATE))
    file = run.file("checkpoints/a.safetensors")
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"checkpoints/a\.safetensors is not a complete safetensors file"):
        fit_objective(run, "a", Linear(), inputs, Optimisation(2, RATE))


class Convolution(nn.Module):
    """A linear classifier of coloured images. It keeps in what form it met images and weights, and gave its answers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 2, 2)
        self.met: set[tuple[torch.dtype, bool, bool]] = set()

    def forward(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, Tensor]:
        logits = self.layer(images).flatten(1)
        formats = [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (images, self.layer.weight)]
        self.met.add((logits.dtype, *formats))
        return {"loss": nn.functional.cross_entropy(logits, labels, reduction="none")}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_and_memory_format_are_those_asked_for(precision: str, channels_last: bool, tmp_path: Path) -> None:
    coloured = torch.rand(50, 3, 2, 2, generator=torch.Generator().manual_seed(0))

    def trained(name: str, **settings: object) -> Convolution:
        run = runs.create(tmp_path / name, Config(batch=16, device="cpu", **settings))
        return fit_objective(run, "a", Convolution(), lambda epoch: (coloured, LABELS), Optimisation(2, RATE))

    plain, other = trained("plain"), trained("other", precision=precision, channels_last=channels_last)
    assert plain.met == {(torch.float32, False, False)}
    assert other.met == {(getattr(torch, precision), channels_last, channels_last)}
    assert other.layer.weight.dtype is torch.float32
    torch.testing.assert_close(weights(other), weights(plain), rtol=0.1, atol=0.05)
    if precision == "bfloat16":
        assert not torch.equal(weights(other), weights(plain))


class Watching(Linear):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, Tensor]:
        self.shown.append(images)
        return super().forward(images, labels, progress)


@pytest.mark.parametrize(("augmentation", "same"), [("none", True), ("crop_flip", False)])
def test_batches_are_augmented_where_asked(augmentation: str, same: bool, tmp_path: Path) -> None:
    run = runs.create(tmp_path / "run", Config(batch=50, device="cpu", augmentation=augmentation))
    watching = Watching()
    fit_objective(run, "a", watching, inputs, Optimisation(1, RATE))
    (shown,) = watching.shown
    assert shown.shape == IMAGES.shape
    assert torch.equal(shown.flatten(1).sort(0).values, IMAGES.flatten(1).sort(0).values) == same
