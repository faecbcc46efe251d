"""`grfd harden`: from a network and a folder of images to a hardened network with a verdict."""

from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.table import Table

from grfd.api.hardening import BEFORE, Hardened, HardenRequest, Recommendation, harden
from grfd.api.job import Own
from grfd.commands.arguments import Epsilon
from grfd.config import Config, checked_config
from grfd.defenses import DEFENSES
from grfd.errors import UserError
from grfd.progress import answer_alone, console, print_json
from grfd.schema import Count, Examples, Seed, Size


def harden_command(
    *,
    model: str,
    out: Path,
    weights: Path | None = None,
    data: str = "folder",
    data_dir: Path | None = None,
    resize: Size | None = None,
    crop: Size | None = None,
    skip_broken: bool = False,
    train_examples: Examples | None = None,
    eps: Epsilon = 4 / 255,
    minutes: float = 60.0,
    examples: Examples = 100,
    batch: Count = 32,
    epochs: Count = 5,
    seed: Seed = 0,
    json: bool = False,
) -> None:
    """Judge a network as it is, fit the defenses that the time allows, judge each, and recommend one.

    Every network is judged by FGSM and A3 under `adaptive`: the attacker knows the whole defense. The table shows clean
    accuracy, the worst case with its interval, and the time of an answer. A stopped call continues.

    Args:
        model: The network: a registered name, timm/NAME, hf/DIRECTORY, hf/ORG/NAME, or package.module:factory.
        out: The run folder for weights, records and hardened.json.
        weights: The weights of the network: safetensors, .pt or .pth. Without them, it is trained from fresh weights
            before it is hardened.
        data: Data set: folder (class folders below train/ and test/), a registered name, or package.module:factory.
        data_dir: Directory of the data set.
        resize: Resize each image so that its shorter side has this length in pixels.
        crop: Cut a square with sides of this length in pixels out of the centre of each image, after --resize.
        skip_broken: Leave out image files that cannot be read, and print their number.
        train_examples: Number of training images, counted from the first. The default is all.
        eps: ε of the L∞ ball in which the network should be robust, in pixels of [0, 1]. The default is 4/255.
        minutes: Time for training, roughly: each training takes at most 35 % of it. Judging comes in addition.
        examples: Number of test images to attack, counted from the first.
        batch: Number of images in a training step.
        epochs: Epochs of the network itself, where its weights or its last layer are not given.
        seed: Seed of all random numbers.
        json: Print the networks, the recommendation and its reason as JSON.
    """
    if not 0 < eps <= 1:
        raise UserError(f"--eps must be more than 0 and at most 1, got {eps:g} (did you mean {eps:g}/255?)")
    if not 0 < minutes <= 100_000:
        raise UserError(f"--minutes must be more than 0 and at most 100,000, got {minutes:g}")
    images = {"resize": resize, "crop": crop, "skip_broken": skip_broken, "train_examples": train_examples}
    config = checked_config(
        Config(data=data, data_dir=data_dir, model=model, weights=weights, batch=batch, seed=seed,
               classifier_epochs=epochs, **images)  # type: ignore[arg-type]
    )  # fmt: skip
    own = Own(model=model if ":" in model else None, trust=":" in data)
    with answer_alone(json):
        outcome = harden(out, config, HardenRequest(eps, minutes, examples), own)
    if json:
        print_json(asdict(outcome))
        return
    console.print(hardening_table(outcome, eps))
    for defense, why in outcome.left_out.items():
        console.print(f"Left out: {defense}, because {why}", highlight=False)
    console.print(("Recommended: " if outcome.recommended else "") + outcome.reason, highlight=False)
    if outcome.recommended is not None:
        console.print(f"Next: grfd export {out} {outcome.recommended} --out FOLDER", highlight=False, soft_wrap=True)


def hardening_table(outcome: Recommendation, eps: float) -> Table:
    """Before and after: one line for each network."""
    title = f"Under adaptive attacks in L∞, ε = {eps:.4g}"
    table = Table("network", "clean, %", "worst case, %", "ms per image", "epochs", "flags", box=box.SIMPLE_HEAD,
                  title=title, title_style="bold", title_justify="left")  # fmt: skip
    for each in outcome.networks:
        style = "bold" if each.model == outcome.recommended else ""
        table.add_row(*_line(each), style=style)
    return table


def _line(each: Hardened) -> list[str]:
    name = "as it is" if each.model == BEFORE else DEFENSES[each.model].TITLE
    clean, worst = (
        f"{100 * share:.1f} [{100 * low:.0f}, {100 * high:.0f}]"
        for share, (low, high) in ((each.clean, each.clean_interval), (each.worst, each.worst_interval))
    )
    return [name, clean, worst, f"{each.milliseconds:.2f}", str(each.epochs), ", ".join(each.flags)]
