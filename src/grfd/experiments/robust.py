"""GRFD robust beside PGD-AT and TRADES: does disentangling help a classifier that is trained against its attacker?

Claim: none of the paper's; ours to test. x ↦ F(x − G(x)), trained end to end, is set beside PGD-AT and TRADES at
several ε and β, beside a control of the same two networks under the same attack without any term of GRFD's, and beside
itself with each term left out, at the same number of gradients in training.
Cost: `grfd reproduce robust --scale short --dry-run` says it, cell by cell.
Command: `grfd reproduce robust --scale short --seeds 3`.
"""

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import nn

from grfd import api, judgement, runs
from grfd.attacks import ATTACKS
from grfd.config import Config
from grfd.data.record import Data, Split
from grfd.defenses import DEFENSES, is_fitted, recipes
from grfd.disentangle.stages import stage_one
from grfd.evaluate import records
from grfd.evaluate.judge import SOURCE
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.opening import build_architecture, load_data, named_data
from grfd.report.robust import CONTENDERS, PROTOCOLS, draw_curve, paired_sheet, robust_sheet
from grfd.report.sheets import printed, write

FOLDER = "robust"
JUDGED = "judged"
STAGE_ONE = "stage-one"
"""Below a seed's folder: one for all contenders that start from it."""


@dataclass(frozen=True)
class Contender:
    """A defense under a recipe; `group` is its line in the curve of clean accuracy against the worst case."""

    group: str
    defense: str
    recipe: dict[str, Any] = field(default_factory=dict)


def pgd_at(eps: float, epochs: int, **recipe: Any) -> Contender:
    return Contender("PGD-AT", "pgd-at", {"eps": eps, "step_size": eps / 2, "steps": 3, "epochs": epochs, **recipe})


def trades(eps: float, beta: float, epochs: int, **recipe: Any) -> Contender:
    settings = {"eps": eps, "step_size": eps / 2, "steps": 3, "beta": beta, "epochs": epochs}
    return Contender("TRADES", "trades", settings | recipe)


def joint(group: str, eps: float, epochs: int, **recipe: Any) -> Contender:
    settings = {"eps": eps, "step_size": eps / 2, "steps": 3, "epochs": epochs}
    return Contender(group, "grfd-robust", settings | recipe)


NO_TERMS: dict[str, Any] = {"start": "fresh", "reconstruction": 0.0, "divergence": 0.0, "rectification": 0.0}
"""The control: G and F as they are, fresh, and nothing but the adversarial cross-entropy."""


AS_PUBLISHED = Contender("GRFD as published", "grfd")


@dataclass(frozen=True)
class Scale:
    """The settings of all, who takes part, and how many images are attacked."""

    config: Config
    contenders: dict[str, Contender]
    examples: int
    attacks: tuple[str, ...]
    """On every contender."""
    finalists: tuple[str, ...] = ()
    """Those on which all of `ATTACKS_OF_FINALISTS` are run too: the others would cost hours."""
    validation: bool = False
    """Whether the training images behind `train_examples` are attacked: the test images must choose nothing."""


ATTACKS_OF_FINALISTS = (*ATTACKS, "apgd_dlr", "mifgsm")


_QUICK = {
    "pgd-at": pgd_at(0.11, 1),
    "control": joint("control", 0.11, 1, **NO_TERMS),
    "grfd-robust": joint("GRFD robust", 0.11, 1),
    "grfd": AS_PUBLISHED,
}

_AVERAGED = {"averaging": 0.999}
_SEARCHED = {
    "pgd-at-0.11": pgd_at(0.11, 12, **_AVERAGED),
    "pgd-at-0.14": pgd_at(0.14, 12, **_AVERAGED),
    "pgd-at-0.17": pgd_at(0.17, 12, **_AVERAGED),
    "pgd-at-0.14-last-weights": pgd_at(0.14, 12),
    "trades-0.14-beta-1": trades(0.14, 1.0, 12, **_AVERAGED),
    "trades-0.14-beta-3": trades(0.14, 3.0, 12, **_AVERAGED),
    "trades-0.14-beta-6": trades(0.14, 6.0, 12, **_AVERAGED),
    "control-0.14": joint("control", 0.14, 12, **_AVERAGED, **NO_TERMS),
    "ours-0.14": joint("GRFD robust", 0.14, 12, **_AVERAGED),
    "ours-0.17": joint("GRFD robust", 0.17, 12, **_AVERAGED),
    "ours-0.14-last-weights": joint("GRFD robust", 0.14, 12),
    "ours-0.14-fresh": joint("GRFD robust", 0.14, 12, **_AVERAGED, start="fresh"),
    "ours-0.14-consistency-3": joint(
        "GRFD robust", 0.14, 12, **_AVERAGED, adversarial=0.0, natural=1.0, consistency=3.0
    ),
    "ours-0.14-invariance-1": joint("GRFD robust", 0.14, 12, **_AVERAGED, invariance=1.0),
    "ours-0.14-robustness-0.1": joint("GRFD robust", 0.14, 12, **_AVERAGED, robustness=0.1),
    "ours-0.14-sampled": joint("GRFD robust", 0.14, 12, **_AVERAGED, latent="sampled"),
}

_SCALES: dict[str, Scale] = {
    "quick": Scale(
        Config(epochs=1, classifier_epochs=1, train_examples=12_000), _QUICK, 50, ("fgsm", "pgd"), ("pgd-at", "grfd")
    ),
    "search": Scale(
        Config(epochs=6, classifier_epochs=6, train_examples=55_000), _SEARCHED, 2000, ("fgsm", "pgd"), validation=True
    ),
}
SCALES = tuple(_SCALES)


def folder_of(out: Path, scale: str, seed: int) -> Path:
    return out / f"{scale}-seed-{seed}"


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """Standard models, stage I, every contender's training and judgement, and the finalists', seed by seed."""
    chosen = replace(_SCALES[scale], config=replace(_SCALES[scale].config, data_dir=data_dir))
    return [cell for seed in range(seeds) for cell in _of_seed(folder_of(out, scale, seed), chosen, seed)]


def _of_seed(folder: Path, scale: Scale, seed: int) -> list[Cell]:
    config = replace(scale.config, seed=seed)
    first, waiting = folder / STAGE_ONE, partial(_waiting, folder, scale)
    second = folder / SOURCE / "second-standard.safetensors"
    todo = [
        Cell("standard models", None, lambda: second.exists() or not waiting(),
             partial(variants.train_standard, folder / SOURCE, config)),
        Cell("stage I", None, lambda: (first / "lvcvae.safetensors").exists() or not waiting(),
             partial(_stage_one, first, config)),
    ]  # fmt: skip
    for name, contender in scale.contenders.items():
        done, do = partial(_is_done_with, folder, scale, name), partial(_fit, folder, name, config, contender)
        todo += [Cell(f"train {name}", None, done, do), _judgement(folder, scale, config, (name,), scale.attacks)]
    if scale.finalists:
        todo.append(_judgement(folder, scale, config, scale.finalists, ATTACKS_OF_FINALISTS))
    return [replace(cell, name=f"seed {seed}: {cell.name}") for cell in todo]


def _waiting(folder: Path, scale: Scale) -> list[str]:
    """Those that some attack has not met yet. The records are enough: a copy in results/ needs no weights."""
    late = [name for name in scale.contenders if not _is_judged(folder, scale, (name,), scale.attacks)]
    finals = [name for name in scale.finalists if not _is_judged(folder, scale, (name,), ATTACKS_OF_FINALISTS)]
    return [name for name in scale.contenders if name in late or name in finals]


def _is_done_with(folder: Path, scale: Scale, name: str) -> bool:
    """Whether a training is there, or nobody needs it any more."""
    return _is_fitted(folder / name, scale.contenders[name]) or name not in _waiting(folder, scale)


def _judgement(folder: Path, scale: Scale, config: Config, names: tuple[str, ...], attacks: tuple[str, ...]) -> Cell:
    title = f"{len(attacks)} attacks on {', '.join(names)}, {scale.examples:,} images"
    done = partial(_is_judged, folder, scale, names, attacks)
    return Cell(title, None, done, partial(_judge, folder, scale, config, names, attacks))


def _stage_one(path: Path, config: Config) -> None:
    with runs.locked(path):
        stage_one(*api.prepare(path, config))


def _is_fitted(path: Path, contender: Contender) -> bool:
    return (path / "config.json").exists() and is_fitted(runs.load(path), contender.defense)


def _fit(folder: Path, name: str, config: Config, contender: Contender) -> None:
    """In a folder of its own, with a copy of the seed's stage I where it starts from one."""
    module = DEFENSES[contender.defense]
    with runs.locked(folder / name):
        run, data, target = api.prepare(folder / name, config)
        channels = data.train.images.shape[1]
        recipe = recipes.settled(module.Recipe(**contender.recipe), channels, module.GREY, module.COLOUR)
        recipes.keep(run, contender.defense, recipe)
        for file in ("lvcvae.safetensors", "rsm.safetensors"):
            if _from_stage_one(contender) and not run.has(file):
                shutil.copyfile(folder / STAGE_ONE / file, run.file(file))
        module.fit(run, data, target, recipe)
        variants.slim(run)


def _from_stage_one(contender: Contender) -> bool:
    recipe = DEFENSES[contender.defense].Recipe(**contender.recipe)
    return contender.defense == "grfd" or getattr(recipe, "start", None) == "stage_one"


def _deployed(path: Path, contender: Contender) -> nn.Module:
    run = runs.load(path)
    data = load_data(run)
    return DEFENSES[contender.defense].load(run, data, build_architecture(run.config, data))


def _is_judged(folder: Path, scale: Scale, names: tuple[str, ...], attacks: tuple[str, ...]) -> bool:
    paths = [records.path_of(folder / JUDGED, name, "adaptive", attack) for name in names for attack in attacks]
    found = [records.read(path) for path in paths]
    file = folder / JUDGED / CONTENDERS
    told = file.exists() and set(names) <= json.loads(file.read_text()).keys()
    return told and all(record is not None and len(record) >= scale.examples for record in found)


def _judge(folder: Path, scale: Scale, config: Config, names: tuple[str, ...], attacks: tuple[str, ...]) -> None:
    names = tuple(name for name in names if not _is_judged(folder, scale, (name,), attacks))
    models = variants.standards(folder / SOURCE)
    models |= {name: _deployed(folder / name, scale.contenders[name]) for name in names}
    judgement.evaluate_models(
        models,
        folder / JUDGED,
        _attacked(config, scale),
        sources=(SOURCE,),
        protocols=PROTOCOLS,
        attacks=attacks,
        examples=scale.examples,
        config=config,
    )
    file = folder / JUDGED / CONTENDERS
    earlier = json.loads(file.read_text()) if file.exists() else {}
    about = {name: asdict(scale.contenders[name]) for name in names}
    spent = {name: about[name] | {"gradients": gradients(scale.contenders[name], config)} for name in names}
    runs.write_json(file, earlier | spent)


def _attacked(config: Config, scale: Scale) -> Data:
    """The data set, with training images that no contender has seen in the test images' place for validation."""
    data = named_data(config)
    if not scale.validation:
        return data
    unseen = slice(config.train_examples, None)
    split = Split(data.train.images[unseen], data.train.labels[unseen])
    return replace(data, test=split, source=f"{data.source}; training images from {config.train_examples:,} on")


GRADIENTS_OF_STAGE_ONE = 5
"""A gradient at x_r and at x_r + v, and the passes back through both of them, and through the network itself."""


def gradients(contender: Contender, config: Config) -> int:
    """Gradients of the whole network that training takes for each image: the attack's, and those of the step itself."""
    first = GRADIENTS_OF_STAGE_ONE * config.epochs if _from_stage_one(contender) else 0
    if contender.defense == "grfd":
        return first + config.classifier_epochs
    recipe = DEFENSES[contender.defense].Recipe(**contender.recipe)
    both = contender.defense == "trades" or any(
        getattr(recipe, name, 0) for name in ("natural", "consistency", "invariance")
    )
    again = 4 if getattr(recipe, "robustness", 0) else 0
    return first + recipe.epochs * (recipe.steps + 1 + both + again)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """All contenders, paired comparisons with the best of ours, and the curve; robust.md, .tex and .csv."""
    folders = [folder_of(out, scale, seed) / JUDGED for seed in range(seeds)]
    sheets = {"robust": robust_sheet(folders), "robust-paired": paired_sheet(folders)}
    for name, sheet in sheets.items():
        write(sheet, out / name)
    drawn = draw_curve(folders, out / "robust")
    return [*(printed(sheet) for sheet in sheets.values()), f"drawn {drawn[0]}"]
