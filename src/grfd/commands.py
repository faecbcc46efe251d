"""What each command does. Options are the fields of typed records; what they mean is said there, once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.table import Table
from rich.text import Text

from grfd import api, judgement, runs
from grfd.arguments import Mode
from grfd.attacks import ATTACKS
from grfd.config import PRESETS, Config, checked
from grfd.data.available import describe
from grfd.defenses import standard
from grfd.disentangle.stages import stage_one, stage_three, stage_two
from grfd.errors import UserError
from grfd.evaluate.case import check_names
from grfd.evaluate.protocols import PROTOCOLS, Protocol
from grfd.evidence import MODES as EVIDENCE_MODES
from grfd.evidence import bench, bench_train, page, reproduce, sweep
from grfd.progress import answer_alone, console, print_json, titled
from grfd.report.table import Row, printed
from grfd.runs import Run
from grfd.schema import Examples, Pixels

RunFolder = tyro.conf.Positional[Path]


@dataclass(frozen=True, kw_only=True)
class Training(Config):
    """A run's settings, and where it goes."""

    out: Path
    """The run folder: made if it is not there, continued if it holds this very run."""

    def config(self) -> Config:
        return checked(Config(**{field.name: getattr(self, field.name) for field in fields(Config)}))


@dataclass(frozen=True, kw_only=True)
class Fitting(Training):
    """The settings of a run that a defense joins."""

    trust: bool = False
    """Import the code that the run folder names as its model; --model with that name says the same."""


def demo(*, out: Path = Path("runs/demo"), examples: Examples = 100) -> None:
    """The main job in five minutes on two cores: train on MNIST, attack, print the table.

    Trains a standard LeNet5, GRFD's three stages and a second standard model with the quick preset, attacks all of
    them with the five attacks of the paper's Table 1 under transfer, whitebox and adaptive, prints the table, and
    writes the run folder with records and a figure like the paper's Fig. 3. Stopped, it continues where it was.

    Args:
        out: The run folder.
        examples: Attack the first so many test images.
    """
    started = time.monotonic()
    _train(Training(**vars(PRESETS["quick"]), out=out))
    evaluate(out, protocols=("transfer", "whitebox", "adaptive"), examples=examples)
    console.print(Text(f"{time.monotonic() - started:.0f} s. The same numbers: grfd show {out} --json", "dim"))


def _train(settings: Training) -> None:
    console.print(titled("train", f" {settings.out}: {settings.data}, {settings.model}, {settings.epochs} epochs"))
    api.train_run(settings.out, settings.config(), trust=True)  # the model is a preset's, or was typed


def fit(name: str, settings: Training, recipe: Any, *, trust: bool = False) -> None:
    """What `grfd fit` does. `trust`: whether the code that the run folder names as its model may be imported."""
    console.print(titled("fit", f" {name} in {settings.out}: {settings.data}, {settings.model}"))
    api.fit_run(name, settings.out, settings.config(), recipe, trust=trust)
    console.print(f"Attack it: grfd evaluate {settings.out}")


def _stage(settings: Training, stage: Callable[..., None], *, takes_model: bool) -> None:
    with runs.locked(settings.out):
        run, data, target = api.prepare(settings.out, settings.config(), trust=True)
        stage(run, data, target) if takes_model else stage(run, data)
    console.print(f"written to {settings.out}")


def evaluate(
    run: tyro.conf.Positional[Path | None] = None,
    *,
    protocols: tuple[Protocol, ...] = tuple(PROTOCOLS),
    attacks: tuple[str, ...] = tuple(ATTACKS),
    examples: Examples = 1000,
    defenses: tuple[str, ...] = (),
    model: str | None = None,
    weights: Path | None = None,
    adapter: str | None = None,
    sources: tuple[str, ...] = (),
    data: str = "mnist",
    data_dir: Path | None = None,
    eps: Pixels | None = None,
    out: Path | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Attack the models of a run, or any model of your own; print the table and the masking checks.

    `grfd evaluate RUN` judges a run that grfd trained; `grfd evaluate --model package.module:factory --out FOLDER`
    judges any PyTorch classifier. Budgets are those of the paper's Table 1, ε in pixels of [0, 1]: MNIST's for grey
    images, CIFAR's for colour. Records, results.json and figures are written. What is recorded is kept: more examples,
    attacks or protocols add to it, and a stopped evaluation continues.

    Args:
        run: The run folder.
        protocols: What the attacker knows. transfer: made on the standard model (or on --sources). whitebox: on the
            whole defense, with z = μ. adaptive: all of that, and more losses, restarts and a gradient-free attack.
            residual: on x_r against the target model alone.
        attacks: Of Table 1: fgsm, pgd, aa (AutoAttack, standard), eotpgd, vmifgsm. Also aa_torchattacks, apgd_ce,
            apgd_dlr, apgd_t, fab, fab_t, square, bim, rfgsm, mifgsm, cw, pixle, hmcam and
            advgan.
        examples: Attack the first so many test images.
        defenses: Of the run's, those to attack, beside the standard models (all that are fitted where none is named).
        model: package.module:factory of your own classifier, called without arguments: images in [0, 1] → logits.
        weights: A safetensors file with the model's weights.
        adapter: package.module:function that wraps the model, say to normalise or to pick its logits.
        sources: Models to transfer from: package.module:factory, or package.module:factory=weights.safetensors.
        data: Data set of your own model: mnist, or folder (one folder of images a class).
        data_dir: Where the data set lies.
        eps: One ε for all attacks, in pixels of [0, 1], in place of Table 1's; step sizes change with it.
        out: Folder for what is judged of your own model.
        trust: Import the code that the run folder names as its model; without it, a run folder imports none.
        json: Print {"rows": [...], "checks": [...]}, as grfd show does.
    """
    if (run is None) == (model is None):
        raise UserError("expected a run folder, or --model package.module:factory, and not both")
    check_names(list(protocols), list(attacks))
    with answer_alone(json):
        if run is not None:
            found, folder = judgement.evaluate(run, protocols, attacks, examples, defenses=defenses, trust=trust), run
        else:
            assert model is not None
            if out is None:
                raise UserError("expected --out FOLDER, where the records of your model go")
            config = checked(Config(data=data, data_dir=data_dir, model=model))
            asked = {"protocols": protocols, "attacks": attacks, "examples": examples, "eps": eps}
            found, folder = judgement.evaluate_named(config, weights, adapter, sources, out, **asked), out
    if json:
        print_json(found)
    else:
        _print_results(runs.load(folder), found)


def show(run: RunFolder, *, json: bool = False) -> None:
    """Print the table of an evaluated run, with the masking checks.

    Args:
        run: The run folder.
        json: Print {"rows": [...], "checks": [...]} instead; attack "none" is clean, "worst" the worst case.
    """
    found = judgement.results(run)
    if json:
        print_json(found)
    else:
        _print_results(runs.load(run), found)


def _print_results(run: Run, found: dict[str, list[dict[str, Any]]]) -> None:
    rows = [Row(**row) for row in found["rows"]]
    papers = run.config.data if any(row.model == "grfd" for row in rows) else ""
    console.print(printed(rows, papers))
    for name, meaning in PROTOCOLS.items():
        if any(row["protocol"] == name for row in found["rows"]):
            console.print(titled(f"  {name}", f": {meaning}"))
    flagged = [check for check in found["checks"] if check["flagged"]]
    console.print(f"Masking checks: {len(found['checks'])} made, {len(flagged)} flagged")
    for check in flagged:
        console.print(Text.assemble(("  !", "bold red"), f" {check['model']}: {check['name']}: {check['detail']}"))
    if run.has("fig3.png"):
        console.print(f"Figure: {run.file('fig3.png')}")


def disentangle(run: RunFolder, *, split: Literal["train", "test"] = "test", out: Path) -> None:
    """Write x, x_u = G(x), x_r = x − x_u and the labels of a split to a NumPy file.

    Args:
        run: The run folder.
        split: Which images.
        out: The .npz: images and redundant float32 in [0, 1], robust float32 in [−1, 1], labels int64.
    """
    console.print(f"written {api.disentangle(run, split, out)}")


def predict(run: RunFolder, images: tyro.conf.Positional[tuple[Path, ...]], *, trust: bool = False) -> None:
    """Classify PNG or JPEG files with the run's defense: file, label, probability.

    Args:
        run: The run folder.
        images: Files of the size that the run was trained on; MNIST's are 28×28, white on black.
        trust: Import the code that the run folder names as its model; without it, a run folder imports none.
    """
    for file, label, probability in api.predict(run, list(images), trust=trust):
        console.print(f"{file}  {label}  {probability:.3f}")


def data() -> None:
    """Say which data sets are there, where they come from, and whether their checksums are right."""
    table = Table("data set", "train", "test", "shape", "classes", "checksum", "location")
    notes = []
    for row in describe():
        shape = "×".join(map(str, row.shape))
        state = Text("right") if row.checksum_right else Text(row.problem, "red")
        shown = state if row.there else Text("not here yet")
        table.add_row(row.name, f"{row.train:,}", f"{row.test:,}", shape, str(row.classes), shown, row.location)
        notes.append(f"{row.name}: {row.source} {row.licence}")
    console.print(table)
    console.print("\n".join(notes))
    console.print("What is not here yet is downloaded where it is first asked for, or read from --data-dir DIR.")
    console.print("folder: one folder of images a class, with --data folder --data-dir DIR")


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "evaluate": evaluate,
    "show": show,
    "disentangle": disentangle,
    "predict": predict,
    "data": data,
    "bench": bench,
    "bench train": bench_train,
    "reproduce": reproduce,
    "sweep": sweep,
    "page": page,
}

MODES: dict[str, tuple[Mode, ...]] = {
    "evaluate": (
        Mode(
            "grfd evaluate RUN",
            lambda asked: asked["run"] is not None and asked["model"] is None,
            ("weights", "adapter", "sources", "data", "data_dir", "eps", "out"),
            "it is for a model of your own, given as --model",
        ),
        Mode(
            "grfd evaluate --model",
            lambda asked: asked["model"] is not None and asked["run"] is None,
            ("defenses",),
            "it is for the defenses of a run folder",
        ),
        Mode(
            "grfd evaluate --model",
            lambda asked: asked["model"] is not None and asked["run"] is None,
            ("trust",),
            "a model that you name yourself is imported without it",
        ),
    ),
    **EVIDENCE_MODES,
}
"""Command → how it can be called, and which of its options do nothing then."""

TRAINING: dict[str, tuple[str, Callable[[Training], None]]] = {
    "train": ("Train the standard models and GRFD's stages I to III.", _train),
    "stage-one": (
        "Stage I: train LVCVAE and RSM together (algorithm 1, lines 1–14).",
        lambda settings: _stage(settings, stage_one, takes_model=True),
    ),
    "stage-two": (
        "Stage II: write the robust dataset R_D (lines 15–19).",
        lambda settings: _stage(settings, stage_two, takes_model=False),
    ),
    "stage-three": (
        "Stage III: train the target model on R_D (lines 20–25).",
        lambda settings: _stage(settings, stage_three, takes_model=True),
    ),
    "standard": (
        "Train the undefended standard model.",
        lambda settings: _stage(settings, standard.fit, takes_model=True),
    ),
}
"""Commands of the form `grfd train PRESET --out RUN [--FIELD VALUE …]`."""
