"""`grfd harden` on a folder of small photographs: before and after, a recommendation, and one line for a mistake."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import grfd
from grfd import cli
from grfd.api.hardening import Hardened, _recommended
from grfd.runs import write_tensors


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of 12×12 images that differ in colour: 40 to train on and 8 to test on, of each."""
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 40), ("test", 8)):
        for place, name in enumerate(("blue", "red")):
            folder = tmp_path / "photographs" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(0, 120, (12, 12, 3), generator=generator, dtype=torch.uint8)
                pixels[..., 2 - 2 * place] += 60
                Image.fromarray(pixels.numpy()).save(folder / f"{index}.png")
    return tmp_path / "photographs"


ASKED = ["harden", "--model", "lenet5", "--data-dir", "photographs", "--out", "hard", "--minutes", "0.05",
         "--examples", "16", "--epochs", "2"]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["grfd", *words])
    try:
        cli.main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_it_judges_before_and_after(
    photographs: Path, one_probe: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *ASKED) == 0
    text = capsys.readouterr().out
    assert "as it is" in text and "N-FGSM" in text and "ms per image" in text
    stored = json.loads(Path("hard/hardened.json").read_text())
    names = [each["model"] for each in stored["networks"]]
    assert names[0] == "standard" and {"bit-depth", "n-fgsm"} <= set(names)
    for each in stored["networks"]:
        assert each["worst"] <= each["clean"] and each["milliseconds"] > 0
        low, high = each["worst_interval"]
        assert low <= each["worst"] <= high
    assert stored["reason"] and (stored["recommended"] is None or stored["recommended"] in names)
    assert grfd.load_defense("hard", defense="n-fgsm")(torch.rand(2, 3, 12, 12)).shape == (2, 2)
    # a second call trains nothing again, and ends with the same numbers
    before = Path("hard/n-fgsm.safetensors").stat().st_mtime_ns
    assert run(monkeypatch, *ASKED, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert [each["worst"] for each in again["networks"]] == [each["worst"] for each in stored["networks"]]
    assert Path("hard/n-fgsm.safetensors").stat().st_mtime_ns == before
    longer = [*ASKED[: ASKED.index("0.05")], "9", *ASKED[ASKED.index("0.05") + 1 :]]
    assert run(monkeypatch, *longer) == 2
    assert "was begun with --minutes 0.05: choose another folder" in capsys.readouterr().err


def test_given_weights_are_the_network_as_it_is(
    photographs: Path, one_probe: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    given = grfd.models.LeNet5(channels=3, classes=2, height=12, width=12).state_dict()
    write_tensors(Path("given.safetensors"), given)
    assert run(monkeypatch, *ASKED, "--weights", "given.safetensors") == 0
    stored = grfd.load_defense("hard", defense="standard").state_dict()
    assert all(torch.equal(given[name], stored[name]) for name in given)
    for _ in range(2):
        assert json.loads(Path("hard/hardened.json").read_text())["networks"][0]["epochs"] == 0
        assert run(monkeypatch, *ASKED, "--weights", "given.safetensors") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--eps", "4"], "--eps must be more than 0 and at most 1, got 4 (did you mean 4/255?)"),
        (["--minutes", "0"], "--minutes must be more than 0"),
        (["--model", "nope"], "unknown model 'nope'"),
        (["--weights", "gone.pt"], "gone.pt is not there"),
        (["--data-dir", "gone"], "gone is not a folder"),
    ],
)
def test_a_mistake_is_one_line(
    photographs: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked = list(ASKED)
    for name, value in zip(words[::2], words[1::2], strict=True):
        if name in asked:
            asked[asked.index(name) + 1] = value
        else:
            asked += [name, value]
    assert run(monkeypatch, *asked) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not Path("hard").exists()


def network(name: str, clean: float, worst: float, low: float, flags: tuple[str, ...] = ()) -> Hardened:
    return Hardened(name, clean, (clean, clean), worst, (low, 1.0), 1.0, 1, flags)


def test_what_is_recommended() -> None:
    before = network("standard", 0.9, 0.1, 0.05)
    chosen, reason = _recommended((before, network("n-fgsm", 0.8, 0.5, 0.4), network("pgd-at", 0.7, 0.6, 0.5)))
    assert chosen == "pgd-at" and "keeps 60.0%" in reason and "costs 20.0 points" in reason
    assert _recommended((before, network("n-fgsm", 0.8, 0.2, 0.09)))[0] is None
    chosen, reason = _recommended((before, network("bit-depth", 0.9, 0.8, 0.7, ("untrue gradients",))))
    assert chosen is None and "flag bit-depth" in reason
