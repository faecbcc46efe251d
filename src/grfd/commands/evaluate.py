"""Evaluation of a run or of a user's own model, and its table."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.text import Text

from grfd import runs
from grfd.api import evaluating, report_data
from grfd.api.job import Own, open_run
from grfd.api.own_model import NamedModel, own_models
from grfd.attacks.budgets import NORMS
from grfd.attacks.registry import names_for_help
from grfd.commands.arguments import Epsilon, Mode
from grfd.commands.report import print_written
from grfd.config import Config, checked_config
from grfd.errors import UserError
from grfd.evaluation.protocols import PROTOCOLS, Protocol
from grfd.evaluation.request import Request, attacks_for
from grfd.evaluation.results import Results
from grfd.experiments.paper import published_rows
from grfd.progress import answer_alone, console, print_json, titled
from grfd.report import exports
from grfd.report.html.page import check_library
from grfd.report.table import results_table
from grfd.report.threat_tables import corruption_tables, threat_tables
from grfd.runs import Run
from grfd.schema import Count, Examples, Size

RunFolder = tyro.conf.Positional[Path]


MODES: tuple[Mode, ...] = (
    Mode(
        "grfd evaluate RUN",
        lambda asked: asked["run"] is not None and asked["model"] is None,
        ("weights", "adapter", "sources", "data", "data_dir", "split", "resize", "crop", "skip_broken", "out"),
        "it is for your own model, given as --model",
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
)
"""Ways of calling `grfd evaluate` in which some of its options have no effect."""


def evaluate_command(
    run: tyro.conf.Positional[Path | None] = None,
    *,
    protocols: tuple[Protocol, ...] = tuple(PROTOCOLS),
    attacks: Annotated[tuple[str, ...] | None, tyro.conf.arg(help=names_for_help())] = None,
    examples: Examples = 1000,
    defenses: tuple[str, ...] = (),
    model: str | None = None,
    weights: Path | None = None,
    adapter: str | None = None,
    sources: tuple[str, ...] = (),
    data: str = "mnist",
    data_dir: Path | None = None,
    split: Literal["test", "all"] = "test",
    resize: Size | None = None,
    crop: Size | None = None,
    skip_broken: bool = False,
    norm: Literal["linf", "l2", "l1"] | None = None,
    eps: tuple[Epsilon, ...] = (),
    target: str | None = None,
    keep_images: bool = False,
    corruptions: bool = False,
    pass_images: Count | None = None,
    out: Path | None = None,
    config: Path | None = None,
    trust: bool = False,
    report: bool = False,
    json: bool = False,
) -> None:
    """Attack the models of a run, or your own model. Print the table and the checks for gradient masking.

    `grfd evaluate RUN` judges a run that grfd trained. `grfd evaluate --model package.module:factory --out FOLDER`
    judges any PyTorch classifier. The budgets are those of the paper's Table 1, with ε in pixels of [0, 1]: those for
    MNIST if images are grey, those for CIFAR if they have colours. Records, results.json and figures are written.
    Existing records are kept: more examples, attacks or protocols are added, and a stopped evaluation continues.

    Args:
        run: The run folder.
        protocols: What the attacker knows. transfer: examples are made on the standard model, or on --sources.
            whitebox: on the whole defense, with z = μ. adaptive: both, and also more losses, restarts and a
            gradient-free attack. residual: on x_r, against the target model alone.
        examples: Number of test images to attack, counted from the first.
        defenses: The defenses of the run to attack, in addition to the standard models. The default is all fitted ones.
        model: Your classifier: package.module:factory (called without arguments; images in [0, 1] → logits), timm/NAME,
            hf/DIRECTORY, hf/ORG/NAME, FILE.pt2 (torch.export) or FILE.pt (TorchScript).
        weights: The weights of --model: a safetensors file, or a .pt or .pth file with a state_dict. Without it, timm/
            and hf/ use their pretrained weights.
        adapter: package.module:function that wraps --model, for example to normalise images or to select the logits.
        sources: Models for transfer: package.module:factory, or package.module:factory=weights.safetensors.
        data: Data set for --model: a registered name, folder (one folder of images for each class), or
            package.module:factory, which returns a grfd.Data or one or two PyTorch data sets of (image, label).
        data_dir: Directory of the data set.
        split: The images for --model: the test split, or all.
        resize: Resize each image so that its shorter side has this length in pixels (bicubic, antialiased). timm/ and
            hf/ models bring their own default.
        crop: Cut a square with sides of this length in pixels out of the centre of each image, after --resize.
        skip_broken: Leave out image files that cannot be read, and print their number.
        norm: The norm in which ε bounds every perturbation, instead of Table 1's budgets. Without --eps its usual ε:
            for L2 1.5 on grey images and 0.5 on colour images, for L1 10 and 12.
        eps: One or several values of ε in pixels of [0, 1], such as 0.1 or 8/255, in L∞ unless --norm says otherwise.
            Several give a robustness curve. Step sizes are scaled with ε.
        target: A class (its number), least-likely, or all: how often is an image mistaken for it?
        keep_images: Store the adversarial images in the run, and judge them again after rounding to 8 bits.
        corruptions: Judge the models under fifteen common corruptions at five severities, too: noise, blur, weather,
            and digital ones such as JPEG.
        pass_images: Number of images that are differentiated at a time. It changes memory and time, and no result.
            Without it, the number follows from the free memory.
        out: Folder for the records of --model.
        config: A TOML file with some of these options, or the evaluation.json of an earlier evaluation. Options on the
            command line win.
        trust: Import the code that the run folder names as its model. Without this option, it imports none.
        report: Also write report.html in the run folder, as grfd report does.
        json: Print {"rows": [...], "checks": [...]}, as grfd show does.
    """
    if report:
        check_library()
    if (run is None) == (model is None):
        raise UserError("expected a run folder, or --model package.module:factory, and not both")
    request = Request(
        protocols, attacks_for(attacks, norm), examples, norm, eps, target, keep_images, corruptions, pass_images
    )
    with answer_alone(json):
        if run is not None:
            folder, judged = run, {}
            results = evaluating.evaluate_run(open_run(run), request, defenses, Own(trust=trust))
        else:
            assert model is not None
            if out is None:
                raise UserError("expected --out FOLDER for the records of your model")
            folder = out
            images = {"resize": resize, "crop": crop, "skip_broken": skip_broken}
            settings = checked_config(Config(data=data, data_dir=data_dir, model=model, **images))  # type: ignore[arg-type]
            victim, whole = NamedModel(model, weights, adapter), split == "all"
            results = evaluating.evaluate_named(victim, sources, out, request, settings, whole=whole)
            judged = own_models(victim, sources) if report else {}
        written = report_data.report(folder, own=Own(trust=trust), models=judged) if report else None
    if json:
        print_json(results.to_json())
        return
    print_results(runs.load(folder), results)
    if written is not None:
        print_written(written)


def show_command(
    run: RunFolder,
    *,
    json: bool = False,
    csv: Path | None = None,
    parquet: Path | None = None,
    robustbench: Path | None = None,
    model: str | None = None,
    tensorboard: Path | None = None,
) -> None:
    """Print the table of an evaluated run, with the checks for gradient masking, or write it for other tools.

    Args:
        run: The run folder.
        json: Print {"rows": [...], "checks": [...]}. Attack "none": clean accuracy; "worst": worst case.
        csv: Write one line for each attacked image to this file, as comma-separated values.
        parquet: Write the same lines to this file as Parquet.
        robustbench: Write RobustBench's entry for --model to this file, in its JSON format.
        model: The model of the RobustBench entry, as the records name it, for example grfd.
        tensorboard: Write the metrics of the training and all accuracies into this folder, for TensorBoard.
    """
    if (robustbench is None) != (model is None):
        raise UserError("--robustbench FILE and --model NAME belong together: which model is the entry of?")
    results, folder = evaluating.results(run), runs.load(run).path
    written = _exported(folder, results, csv, parquet, tensorboard)
    if robustbench is not None and model is not None:
        exports.write_robustbench(folder, results, model, robustbench)
        written.append(f"{robustbench}: fill in link, authors, venue and additional_data")
    if json:
        print_json(results.to_json())
    elif written:
        console.print("\n".join(f"written {line}" for line in written), highlight=False, markup=False, soft_wrap=True)
    else:
        print_results(runs.load(run), results)


def _exported(
    folder: Path, results: Results, csv: Path | None, parquet: Path | None, tensorboard: Path | None
) -> list[str]:
    """Writes the files that were asked for. Returns a line for each."""
    lines = []
    if csv is not None:
        lines.append(f"{csv}: {exports.write_csv(folder, csv):,} lines")
    if parquet is not None:
        lines.append(f"{parquet}: {exports.write_parquet(folder, parquet):,} lines")
    if tensorboard is not None:
        lines.append(f"{tensorboard}: {exports.write_tensorboard(folder, results, tensorboard):,} numbers")
    return lines


def print_results(run: Run, results: Results) -> None:
    """Prints the table with the paper's numbers, the protocols, the checks that raised a flag, and the figure."""
    rows = [row for row in results.rows if row.norm is None and row.target is None]
    beside = published_rows(rows, run.config.data) if any(row.model == "grfd" for row in rows) else {}
    if rows:
        console.print(results_table(rows, beside))
    for table in [*threat_tables(results.rows, results.distances), *corruption_tables(results.corruptions)]:
        console.print(table)
    for name, meaning in PROTOCOLS.items():
        if any(row.protocol == name for row in results.rows):
            console.print(titled(f"  {name}", f": {meaning}"))
    flagged = [check for check in results.checks if check.flagged]
    console.print(f"Masking checks: {len(results.checks)} made, {len(flagged)} flagged")
    for check in flagged:
        console.print(Text.assemble(("  !", "bold red"), f" {check.model}: {check.name}: {check.detail}"))
    for figure in ("fig3.png", *(f"curve-{norm}.png" for norm in NORMS)):
        if run.has(figure):
            console.print(f"Figure: {run.file(figure)}")
