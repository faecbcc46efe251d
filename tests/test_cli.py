"""The commands as a user runs them: a whole small run, its output, and one clear line for each mistake."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import command
import numpy as np
import pytest
import torch
from PIL import Image

import grfd
from grfd import cli
from grfd.cli import COMMANDS, TRAINING
from grfd.config import PRESETS
from grfd.data import Data
from grfd.defenses import DEFENSES

SMALL = ["--epochs", "1", "--classifier-epochs", "1", "--latent", "16", "--device", "cpu", "--train-examples", "300"]


def run(*arguments: str | Path, code: int = 0, one_probe: bool = False) -> command.Done:
    done = command.run(*arguments, one_probe=one_probe)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def refused(*arguments: str | Path) -> str:
    """The one line that a mistake gets."""
    done = run(*arguments, code=2)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("grfd: "), done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    run("train", "quick", "--out", folder, *SMALL)
    return folder


@pytest.fixture(scope="module")
def evaluated(trained: Path) -> Path:
    run("evaluate", trained, "--examples", "20", "--attacks", "fgsm", "pgd")
    return trained


def test_train_writes_every_part(trained: Path) -> None:
    parts = {"standard", "second-standard", "lvcvae", "rsm", "robust", "target"}
    assert parts <= {path.stem for path in trained.glob("*.safetensors")}
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows] == ["standard", "stage-one", "stage-three", "second-standard"]
    assert {"rc", "kl", "rf", "cl", "rb"} <= set(rows[1])


def test_stages_one_by_one_give_the_same_weights(trained: Path, tmp_path: Path) -> None:
    for stage in ("stage-one", "stage-two", "stage-three"):
        run(stage, "quick", "--out", tmp_path / "run", *SMALL)
    for name in ("lvcvae", "rsm", "robust", "target"):
        assert (tmp_path / f"run/{name}.safetensors").read_bytes() == (trained / f"{name}.safetensors").read_bytes()


def test_fit_joins_the_models_of_a_run(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    run("fit", "pgd-at", "--out", folder, "--recipe.epochs", "1")
    recipe = json.loads((folder / "recipes/pgd-at.json").read_text())
    published = {"eps": 0.11, "step_size": 0.055, "steps": 3, "learning_rate": 0.001, "averaging": 0.0}
    assert recipe == published | {"epochs": 1}
    assert json.loads((folder / "config.json").read_text()) == json.loads((trained / "config.json").read_text())
    run("evaluate", folder, "--examples", "10", "--attacks", "fgsm", "--protocols", "whitebox", one_probe=True)
    found = {row["model"] for row in json.loads(run("show", folder, "--json").stdout)["rows"]}
    assert found == {"standard", "grfd", "pgd-at"}


def test_fit_explains_itself_and_its_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cli._dispatch(["fit"])
    said = " ".join(capsys.readouterr().out.split())
    assert all(name in said and (module.__doc__ or "").splitlines()[0] in said for name, module in DEFENSES.items())
    for arguments, expected in (
        (["fit", "magic"], "unknown defense 'magic': expected one of standard"),
        (["fit", "pgd-at", "magic", "--out", str(tmp_path / "run")], "unknown preset 'magic': expected one of mnist"),
        (["fit", "pgd-at", "mnist-robust"], "out"),
        (["fit", "pgd-at", "--out", str(tmp_path / "run"), "--recipe.magic", "1"], "recipe.magic"),
        (["fit", "pgd-at", "--out", str(tmp_path / "run"), "--batch", "0"], "batch must be at least 1"),
    ):
        with pytest.raises(grfd.UserError, match=expected):
            cli._dispatch(arguments)
    assert not (tmp_path / "run").exists()


def test_fit_takes_a_preset_unless_the_folder_has_another(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    said = refused("fit", "bit-depth", "mnist-robust", "--out", tmp_path / "run")
    assert "holds a run of another configuration" in said
    settings = cli._config_of(["--out", str(tmp_path / "run")])
    assert settings.epochs != PRESETS["mnist-robust"].epochs


def test_a_stage_asks_for_the_one_before(tmp_path: Path) -> None:
    said = refused("stage-two", "quick", "--out", tmp_path / "run", *SMALL)
    assert "lvcvae.safetensors is not there: train that stage first" in said


def test_show_prints_the_table_and_its_protocols(evaluated: Path) -> None:
    said = run("show", evaluated).stdout
    for word in ("transfer", "whitebox", "adaptive", "residual", "GRFD", "standard", "FGSM", "worst", "Masking checks"):
        assert word in said
    assert "…" not in said


def test_show_json_is_the_contract(evaluated: Path) -> None:
    found = json.loads(run("show", evaluated, "--json").stdout)
    assert set(found) == {"rows", "checks", "distances", "corruptions"}
    fields = {"model", "protocol", "attack", "examples", "accuracy", "low", "high"}
    fields |= {"norm", "eps", "target", "success", "rounded"}
    assert all(set(row) == fields for row in found["rows"])
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in found["rows"])
    assert all(set(check) == {"model", "name", "flagged", "detail"} for check in found["checks"])
    cells = {(row["model"], row["protocol"], row["attack"]): row for row in found["rows"]}
    assert cells["grfd", "adaptive", "pgd"]["examples"] == 20
    for protocol in ("transfer", "whitebox", "adaptive"):
        worst = cells["grfd", protocol, "worst"]["accuracy"]
        assert worst <= min(cells["grfd", protocol, name]["accuracy"] for name in ("none", "fgsm", "pgd"))
    assert found == json.loads((evaluated / "results.json").read_text())


def test_the_figure_is_drawn(evaluated: Path) -> None:
    with Image.open(evaluated / "fig3.png") as figure:
        assert min(figure.size) > 500
        assert np.asarray(figure.convert("L")).std() > 20
    assert (evaluated / "fig3.pdf").read_bytes().startswith(b"%PDF")


def test_disentangle_writes_parts_that_add_up(trained: Path, tmp_path: Path, mnist: Data) -> None:
    run("disentangle", trained, "--split", "test", "--out", tmp_path / "parts.npz")
    with np.load(tmp_path / "parts.npz") as parts:
        assert set(parts.files) == {"images", "redundant", "robust", "labels"}
        assert parts["images"].shape == (10_000, 1, 28, 28)
        np.testing.assert_allclose(parts["redundant"] + parts["robust"], parts["images"], atol=1e-6)
        assert parts["labels"].tolist() == mnist.test.labels.tolist()


def test_predict_agrees_with_the_api(trained: Path, tmp_path: Path, mnist: Data) -> None:
    files = []
    for index in range(3):
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(mnist.test.images[index, 0].numpy()).save(files[-1])
    lines = run("predict", trained, *files).stdout.split()
    with torch.no_grad():
        probabilities = grfd.load_defense(trained)(mnist.test.images[:3].float() / 255).softmax(1)
    assert lines[1::3] == [str(int(index)) for index in probabilities.argmax(1)]
    assert [float(value) for value in lines[2::3]] == pytest.approx(probabilities.amax(1).tolist(), abs=6e-4)


def said_by(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a command prints, called in this process: importing grfd takes seconds."""
    capsys.readouterr()
    cli._dispatch([*map(str, arguments)])
    return capsys.readouterr().out


def test_predict_prints_the_same_as_json(
    trained: Path, tmp_path: Path, mnist: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(mnist.test.images[0, 0].numpy()).save(tmp_path / "0.png")
    _, label, probability = said_by(capsys, "predict", trained, tmp_path / "0.png").split()
    (predicted,) = json.loads(said_by(capsys, "predict", trained, tmp_path / "0.png", "--json"))
    assert predicted.keys() == {"file", "label", "probability"} and predicted["label"] == label
    assert predicted["file"] == str(tmp_path / "0.png") and f"{predicted['probability']:.3f}" == probability


def test_data_says_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    said = said_by(capsys, "data")
    assert "mnist" in said and "60,000" in said and "right" in said
    rows = {row["name"]: row for row in json.loads(said_by(capsys, "data", "--json"))}
    assert rows.keys() == {"mnist", "cifar10", "cifar100"}
    assert (rows["mnist"]["train"], rows["mnist"]["shape"], rows["mnist"]["problem"]) == (60_000, [1, 28, 28], "")


def test_a_runs_own_configuration_is_used_again(trained: Path, tmp_path: Path) -> None:
    cli._dispatch(["stage-one", "--config", str(trained / "config.json"), "--out", str(tmp_path / "same")])
    assert (tmp_path / "same/lvcvae.safetensors").read_bytes() == (trained / "lvcvae.safetensors").read_bytes()


def test_a_file_changes_a_preset_and_what_is_typed_changes_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("seed = 3\nlatent = 8\nalpha = [1.0, 2.0, 3.0]\ndata_dir = 'nowhere'")
    settings = cli.config_with(PRESETS["quick"], cli.read_settings_file(file), file)
    assert (settings.seed, settings.latent, settings.alpha, settings.epochs) == (3, 8, (1.0, 2.0, 3.0), 3)
    for words in (["train"], ["fit", "bit-depth"]):
        asked = [*words, "quick", "--config", str(file), "--out", str(tmp_path / "new")]
        with pytest.raises(grfd.UserError, match="nowhere"):
            cli._dispatch(asked)
        with pytest.raises(grfd.UserError, match="latent must be at least 1, got 0"):
            cli._dispatch([*asked, "--latent", "0"])


def test_a_defenses_recipe_may_stand_in_the_file(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "fit.toml").write_text("[recipe]\nbits = 2")
    cli._dispatch(["fit", "bit-depth", "--config", str(tmp_path / "fit.toml"), "--out", str(tmp_path / "run")])
    assert json.loads((tmp_path / "run/recipes/bit-depth.json").read_text())["bits"] == 2


def test_options_of_evaluate_come_from_a_file_unless_they_are_typed(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], one_probe: None
) -> None:
    for name in ("run", "again"):
        shutil.copytree(trained, tmp_path / name, ignore=shutil.ignore_patterns("records", "results.json", "eval*"))
    (tmp_path / "judge.toml").write_text('attacks = ["fgsm"]\nprotocols = ["whitebox"]\nexamples = 9\njson = true')
    asked = ["--config", tmp_path / "judge.toml", "--examples", "7"]
    found = json.loads(said_by(capsys, "evaluate", tmp_path / "run", *asked))
    assert {(row["protocol"], row["attack"], row["examples"]) for row in found["rows"]} == {
        ("whitebox", name, 7) for name in ("none", "fgsm", "worst")
    }
    cli._dispatch(["evaluate", str(tmp_path / "again"), "--config", str(tmp_path / "run/evaluation.json")])
    first, second = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("run", "again"))
    assert first == second and first["attacks"] == ["fgsm"] and first["examples"] == 7


WORDS = """
source "$1"
function=$(complete -p grfd | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
words() {
    COMPREPLY=() COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*"
    COMP_POINT=${#COMP_LINE}
    $function
    echo "${COMPREPLY[@]}"
}
words grfd eval; words grfd train qu
words grfd train quick --gamm; words grfd fit pgd-at --recipe.ep; words grfd bench tr
"""


def test_bash_completes_commands_presets_defenses_and_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "grfd.bash").write_text(said_by(capsys, "completion", "bash"))
    done = subprocess.run(["bash", "-c", WORDS, "bash", str(tmp_path / "grfd.bash")], capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout.splitlines() == [
        "evaluate",
        "quick",
        "--gamma",
        "--recipe.eps --recipe.epochs",
        "train transfer",
    ]
    for shell in ("zsh", "fish"):
        assert "grfd" in said_by(capsys, "completion", shell)


def test_help_explains_every_command() -> None:
    said = run("--help").stdout
    assert all(name in said for name in [*COMMANDS, *TRAINING])
    assert "pixels of" in run("evaluate", "--help").stdout
    said = run("train", "--help").stdout
    assert "presets: mnist-lenet5, quick" in said and "--gamma" in said


MISTAKES: dict[str, tuple[list[str], str]] = {
    "command": (["trian"], "unknown command 'trian'"),
    "preset": (["train", "fast", "--out", "x"], "unknown preset 'fast': expected one of mnist-lenet5, quick"),
    "field": (["train", "quick", "--out", "x", "--gama", "1"], "--gama"),
    "number": (["train", "quick", "--out", "x", "--epochs", "many"], "many"),
    "range": (["train", "quick", "--out", "x", "--epochs", "0"], "epochs must be at least 1, got 0"),
    "no folder given": (["train", "quick"], "--out"),
    "data set": (["train", "quick", "--out", "x", "--data", "minst"], "unknown dataset 'minst'"),
    "no such directory": (["train", "quick", "--out", "x", "--data-dir", "nowhere"], "nowhere"),
    "model": (["train", "quick", "--out", "x", "--model", "lenet6"], "unknown model 'lenet6'"),
    "model of another shape": (["train", "quick", "--out", "x", "--model", "torch.nn:Flatten"], "(2, 784)"),
    "no image": (["predict", "nowhere"], "no image given"),
    "no run": (["show", "nowhere"], "nowhere holds no run"),
    "protocol": (["evaluate", "nowhere", "--protocols", "whitbox"], "whitbox"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, expected = MISTAKES[mistake]
    assert expected in refused(*arguments)


def test_a_run_that_is_not_evaluated_says_how(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    grfd.train(tmp_path / "run", "quick", epochs=1, classifier_epochs=1, train_examples=50, latent=4, device="cpu")
    assert "contains no results yet: run grfd evaluate" in refused("show", tmp_path / "run")


def test_other_settings_in_the_same_folder_are_refused(trained: Path) -> None:
    before = {path: path.read_bytes() for path in trained.glob("*.safetensors")}
    assert "gamma 0.4 → 0.9" in refused("train", "quick", "--out", trained, *SMALL, "--gamma", "0.9")
    assert {path: path.read_bytes() for path in trained.glob("*.safetensors")} == before


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nhalf", b"text"])
def test_an_image_that_cannot_be_read(trained: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert "a.png cannot be read as an image" in refused("predict", trained, tmp_path / "a.png")


def test_an_image_of_another_size(trained: Path, tmp_path: Path) -> None:
    Image.new("L", (32, 20)).save(tmp_path / "a.png")
    assert "a.png is 20×32: expected 28×28" in refused("predict", trained, tmp_path / "a.png")


def test_truncated_weights(trained: Path, tmp_path: Path) -> None:
    for file in ("config.json", "lvcvae.safetensors"):
        (tmp_path / file).write_bytes((trained / file).read_bytes())
    (tmp_path / "target.safetensors").write_bytes((trained / "target.safetensors").read_bytes()[:-10])
    assert "target.safetensors is not a complete safetensors file" in refused("predict", tmp_path, tmp_path / "a.png")


def test_a_protocol_that_applies_to_no_model_is_refused(small: Data, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    for protocols, expected in (
        (["residual"], "protocol residual applies to none of model: it needs a defense"),
        (["transfer", "whitebox"], "protocol transfer applies to none of model: give a source"),
        ([], "no protocol is named"),
    ):
        with pytest.raises(grfd.UserError, match=expected):
            grfd.evaluate_model(model, tmp_path / "judged", small, protocols=protocols, attacks=["fgsm"])
    with pytest.raises(grfd.UserError, match="no attack is named"):
        grfd.evaluate_model(model, tmp_path / "judged", small, attacks=[])
    assert not (tmp_path / "judged").exists()


def grfd_command(tmp_path: Path, *arguments: str, **options: object) -> subprocess.Popen:
    """The installed command, with a light entry point, in an empty folder."""
    program = str(Path(sys.executable).with_name("grfd"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | options.pop("environment", {})
    # a shell's job in the background ignores Ctrl-C, and its children with it: the command is started as in a terminal
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    kept = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": listening} | options
    return subprocess.Popen([program, *arguments], env=environment, cwd=tmp_path, **kept)


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        for unbuffered in ("", "1"):
            environment = {"PYTHONUNBUFFERED": unbuffered}
            done = grfd_command(tmp_path, "--help", stdout=full, environment=environment)
            assert done.communicate()[1].decode() == "grfd: cannot write to standard output: No space left on device\n"
            assert done.returncode == 2


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_error(tmp_path: Path, unbuffered: str) -> None:
    for arguments in (["--help"], ["reproduce"]):
        with grfd_command(tmp_path, *arguments, environment={"PYTHONUNBUFFERED": unbuffered}) as done:
            done.stdout.close()
            assert done.stderr.read() == b""
            assert done.wait() == 0


def test_any_encoding_will_do(tmp_path: Path) -> None:
    done = grfd_command(tmp_path, "evaluate", "--help", environment={"PYTHONIOENCODING": "ascii"})
    said, wrong = done.communicate()
    assert done.returncode == 0 and wrong == b""
    assert "eps in pixels" in said.decode("ascii")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("part", ["numpy", "torch.nn", "grfd.commands.evaluate"])
def test_a_signal_during_the_import_is_one_line(tmp_path: Path, number: int, part: str) -> None:
    """The signal comes when a module is looked for, so at the same moment on any machine."""
    code = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with SIGINT ignored
class Stop:
    def find_spec(self, name, path, target=None):
        if name == {part!r}:
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Stop())
sys.argv = ["grfd", "--help"]
from grfd_command import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == "grfd: stopped; the same command continues from here\n"


def test_a_schedulers_signal_stops_a_training_that_then_continues(trained: Path, tmp_path: Path) -> None:
    arguments = ["train", "quick", "--out", str(tmp_path / "run"), *SMALL]
    process = command.Running(*arguments)
    while process.is_alive() and not (tmp_path / "run/standard.safetensors").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    code, _, printed = process.done()
    said = printed.splitlines()
    assert code == 143
    assert said[-1] == "grfd: stopped; the same command continues from here"
    assert sum(line.startswith("grfd:") for line in said) == 1 and "Traceback" not in "".join(said)
    run(*arguments)
    for name in ("standard", "lvcvae", "target"):
        assert (tmp_path / f"run/{name}.safetensors").read_bytes() == (trained / f"{name}.safetensors").read_bytes()


TALKATIVE = """
import atexit, os
from torch import nn
print("imported")
atexit.register(lambda: print("ended"))
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        print("made")
        self.called = False
        self.inner = nn.Linear(784, 10)
    def forward(self, x):
        if not self.called:
            print("called")
            os.system("echo from a program")
        self.called = True
        return self.inner(x.flatten(1))
"""


def test_json_stands_alone_whatever_a_model_prints(tmp_path: Path) -> None:
    (tmp_path / "talkative.py").write_text(TALKATIVE)
    asked = ["--attacks", "fgsm", "--protocols", "whitebox", "--examples", "4", "--json"]
    done = grfd_command(tmp_path, "evaluate", "--model", "talkative:Network", "--out", "judged", *asked)
    said, beside = done.communicate()
    assert done.returncode == 0, beside.decode()
    assert json.loads(said).keys() == {"rows", "checks", "distances", "corruptions"}
    for word in ("imported", "made", "called", "from a program", "ended"):
        assert word in beside.decode()


def test_square_brackets_are_no_markup_and_lines_stay_whole(trained: Path, tmp_path: Path, mnist: Data) -> None:
    names = ["[red]x.png", ":cat:.png", "x" * 150 + ".png", "[bold]"]
    for name in names:
        Image.fromarray(mnist.test.images[0, 0].numpy()).save(tmp_path / name, format="png")
    lines = run("predict", trained, *(tmp_path / name for name in names)).stdout.splitlines()
    assert [line.rsplit("  ", 2)[0] for line in lines] == [str(tmp_path / name) for name in names]
    shutil.copytree(trained, tmp_path / "[/x] [bold]")
    said = run("train", "quick", "--out", tmp_path / "[/x] [bold]", *SMALL).stdout
    assert said.startswith(f"train {tmp_path / '[/x] [bold]'}: mnist")


def test_a_mistake_leaves_no_run_behind(tmp_path: Path) -> None:
    """The corrected command must not find another configuration in the folder."""
    for mistake in (["--model", "lenet6"], ["--data", "minst"], ["--model", "torch.nn:Flatten"]):
        refused("train", "quick", "--out", tmp_path / "run", *SMALL, *mistake)
    assert not (tmp_path / "run/config.json").exists()
    run("stage-one", "quick", "--out", tmp_path / "run", *SMALL)
