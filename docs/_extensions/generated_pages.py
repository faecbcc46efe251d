"""The reference, written from the code before each build: commands, settings, attacks, defenses and the Python API.

No name or number of these pages is typed by hand. They lie in docs/generated/, which git ignores.
"""

import inspect
import pkgutil
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import docstring_parser
from root_pages import COPIED, copied, into_the_site
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from words import default, escaped, first_line, joined, kind, plain, table

import grfd
from grfd.attacks import ALL_ATTACKS, AttackEntry
from grfd.cli import FIT
from grfd.commands.registry import COMMANDS, MODES
from grfd.commands.train import TRAINING, Training
from grfd.config import PRESETS, Config
from grfd.data import DATASETS
from grfd.defenses import DEFENSES
from grfd.evaluation.probes import PROBES
from grfd.evaluation.protocols import PROTOCOLS
from grfd.experiments import EXPERIMENTS
from grfd.models import MODELS

PACKAGES = {
    "api": "What commands and notebooks both call",
    "data": "Data sets as tensors",
    "models": "Target classifiers",
    "training": "The training loop and its checkpoints",
    "attacks": "Attacks",
    "method": "The method: losses, networks and stages of Li et al. 2025",
    "defenses": "Defenses",
    "evaluation": "The judge: protocols, records, masking checks",
    "report": "Tables and figures",
    "experiments": "The experiments of the paper",
    "bench": "Speed and strength beside other libraries",
}
"""Package → title of its page, in the order of the layers."""
ROOT = Path(__file__).parents[2]


def pages() -> dict[str, str]:
    """File name → Markdown of every page of the reference that follows from the code."""
    return {
        "commands.md": commands(),
        "settings.md": settings(),
        "recipes.md": recipes(),
        "registries.md": registries(),
        "python.md": python(),
        **{f"api-{name}.md": package(name, title) for name, title in PACKAGES.items()},
        "api-foundation.md": foundation(),
        **{f"{name.lower()}": copied((ROOT / name).read_text()) for name in COPIED},
    }


# commands and settings


def commands() -> str:
    """Every command with its options."""
    parts = [
        "# Commands",
        "`grfd COMMAND --help` prints the same on the terminal. An option `--no-NAME` switches a flag off. Where a "
        "command was stopped, the same command continues it.",
    ]
    for name, (summary, _) in TRAINING.items():
        parts += [f"## grfd {name}", f"`grfd {name} [PRESET] --out RUN [--config FILE] [--FIELD VALUE …]`", summary]
        parts += ["The presets and all fields are listed under [settings](settings.md)."]
    parts += [
        "## grfd fit",
        "`grfd fit DEFENSE [PRESET] --out RUN [--config FILE] [--recipe.FIELD VALUE …] [--FIELD VALUE …]`",
        FIT,
    ]
    parts += ["The defenses and the fields of their recipes are listed under [recipes](recipes.md)."]
    for name, function in COMMANDS.items():
        parts += [f"## grfd {name}", *command(name, function)]
    return joined(parts)


def command(name: str, function: Callable[..., None]) -> list[str]:
    """Usage, description and a table of the options of one command."""
    described = docstring_parser.parse(inspect.getdoc(function) or "")
    explained = {each.arg_name: each.description or "" for each in described.params}
    hints = get_type_hints(function, include_extras=True)
    positional, options = [], []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        shown = f"`--{parameter.name.replace('_', '-')}`" if keyword else f"`{parameter.name.upper()}`"
        row = [shown, kind(hint), default(parameter.default), explained.get(parameter.name, "")]
        (options if keyword else positional).append(row)
    usage = " ".join(["grfd", name, *(row[0].strip("`") for row in positional), "[OPTIONS]" if options else ""]).strip()
    texts = [f"`{usage}`", described.short_description or "", described.long_description or ""]
    texts.append(table(["option", "type", "default", "meaning"], positional + options) if positional + options else "")
    for mode in MODES.get(name, ()):
        names = ", ".join(f"`--{each.replace('_', '-')}`" for each in mode.ignored)
        texts.append(f"With `{mode.title}`, {names} do not apply: {mode.reason}.")
    return texts


def settings() -> str:
    """Every field of a run's configuration, and what each preset changes."""
    rows = field_rows(Training, "")
    parts = [
        "# Settings of a run",
        "Each field is an option of `grfd train`, `grfd fit` and the commands for single stages (`--learning-rate`), a "
        "keyword of `grfd.train` (`learning_rate=`), and a key of `config.json` in the run folder. "
        "The symbols are those of [the method](../method.md).",
        table(["option", "type", "default", "meaning"], rows),
        "## Presets",
        "A preset is a set of defaults; every field can be changed on top of it.",
    ]
    for name, preset in PRESETS.items():
        changes = [f"`{each.name}` {getattr(preset, each.name)}" for each in fields(Config)
                   if getattr(preset, each.name) != getattr(Config(), each.name)]  # fmt: skip
        parts.append(f"- **{name}**: {', '.join(changes) or 'the defaults'}")
    return joined(parts)


def recipes() -> str:
    """Every field of every defense's recipe."""
    parts = [
        "# Recipes of the defenses",
        "`grfd fit DEFENSE --out RUN --recipe.FIELD VALUE`. A field whose default is a dash takes the value of the "
        "literature, for grey images or for colour. [The defenses](../defenses.md) says what each of them is.",
    ]
    for name, module in DEFENSES.items():
        parts += [f"## {name}", escaped(inspect.getdoc(module) or ""), escaped(module.LITERATURE)]
        rows = field_rows(module.Recipe, "recipe.")
        for row, each in zip(rows, fields(module.Recipe), strict=True):
            row[3:3] = [plain(module.GREY.get(each.name)), plain(module.COLOUR.get(each.name))]
        header = ["option", "type", "default", "grey", "colour", "meaning"]
        parts.append(table(header, rows) if rows else "There is nothing to set.")
    return joined(parts)


def field_rows(record: type[Any], prefix: str) -> list[list[str]]:
    """Option, type, default and meaning of each field of a settings record."""
    hints, meanings = get_type_hints(record, include_extras=True), attribute_docs(record)
    return [
        [f"`--{prefix}{each.name.replace('_', '-')}`", kind(hints[each.name]), default(each.default),
         meanings.get(each.name, "")]
        for each in fields(record)
    ]  # fmt: skip


def attribute_docs(record: type[Any]) -> dict[str, str]:
    """Field → its docstring, which stands below it in the source, in the record or in one that it derives from."""
    texts: dict[str, str] = {}
    for owner_class in reversed(record.__mro__[:-1]):
        documented = ModuleAnalyzer.for_module(owner_class.__module__).find_attr_docs()
        texts |= {
            name: " ".join(lines).strip()
            for (owner, name), lines in documented.items()
            if owner == owner_class.__name__
        }
    return texts


# registries


def registries() -> str:
    """What can be named on the command line: attacks with their budgets, protocols, data sets, models and so on."""
    parts = [
        "# Attacks, protocols and other names",
        "## Attacks",
        "Budgets are those of the paper's Table 1 where it names the attack (in bold), and ours where it does not. "
        "ε and step sizes are in units of 1/255 of a pixel's range; a Euclidean length is in pixels of [0, 1].",
        table(["name", "title", "what it is", "grey images", "colour images"], attack_rows()),
        "## Protocols",
        "What the attacker knows; [the explanation](../protocols.md) says more.",
        table(["name", "adversarial examples are"], [[f"`{name}`", text] for name, text in PROTOCOLS.items()]),
        "## Masking checks",
        "[Judging your own classifier](../own-model.md) says what to do about each.",
        table(["check", "what it looks for"], [[name, first_line(probe)] for name, probe in PROBES.items()]),
        "## Data sets",
        table(["name", "what it is"], [[f"`{name}`", first_line(entry.load)] for name, entry in DATASETS.items()]),
        "## Target models",
        "Besides these, `wrn-DEPTH-WIDTH[-dropout-RATE]`, `timm/NAME`, and `package.module:factory` of your own.",
        table(["name", "what it is"], [[f"`{name}`", first_line(make)] for name, make in MODELS.items()]),
        "## Experiments",
        "`grfd reproduce NAME --scale SCALE`; with `--dry-run` it prints its cells and what they cost.",
        table(["name", "scales", "what it is"], [
            [f"`{name}`", ", ".join(f"`{scale}`" for scale in each.SCALES), first_line(each)]
            for name, each in EXPERIMENTS.items()
        ]),
    ]  # fmt: skip
    return joined(parts)


def attack_rows() -> list[list[str]]:
    rows = []
    for name, entry in ALL_ATTACKS.items():
        shown = f"**`{name}`**" if entry.table_1 else f"`{name}`"
        explained = first_line(inspect.getmodule(entry.function))
        rows.append([shown, entry.title, explained, budget(entry, entry.grey), budget(entry, entry.colour)])
    return rows


def budget(entry: AttackEntry, settings: Mapping[str, Any]) -> str:
    """ε, step size and steps of one attack."""
    return ", ".join(f"{key} {amount(entry, key, value)}" for key, value in settings.items()) or "none"


def amount(entry: AttackEntry, key: str, value: Any) -> str:
    if key in ("eps", "step_size") and entry.threat == "linf":
        return f"{round(255 * value, 3):g}/255"
    return plain(value)


# the Python API


def python() -> str:
    """What `import grfd` offers."""
    functions = [name for name in grfd.__all__ if inspect.isfunction(getattr(grfd, name))]
    classes = [name for name in grfd.__all__ if inspect.isclass(getattr(grfd, name))]
    parts = ["# From Python", "What `import grfd` offers. `grfd.PRESETS` are the [presets](settings.md#presets)."]
    parts += ["## Functions", rst(f".. autofunction:: grfd.{name}" for name in functions)]
    parts += ["## Records", rst(f".. autoclass:: grfd.{name}" for name in classes)]
    return joined(parts)


def package(name: str, title: str) -> str:
    """The docstrings of all public modules of one package."""
    path = [str(Path(grfd.__file__).parent / name)]
    found = [each.name for each in pkgutil.walk_packages(path, f"grfd.{name}.")]
    public = [each for each in found if not any(part.startswith("_") for part in each.split("."))]
    return joined([f"# grfd.{name}: {title}", *automodules([f"grfd.{name}", *public])])


def foundation() -> str:
    """The modules that all packages use."""
    found = [each.name for each in pkgutil.iter_modules(grfd.__path__, "grfd.") if not each.ispkg]
    public = [each for each in found if not each.endswith("__main__")]
    return joined(["# grfd: the modules that all packages use", *automodules(public)])


def automodules(names: Iterable[str]) -> list[str]:
    return [part for name in names for part in (f"## {name}", rst([f".. automodule:: {name}"]))]


def rst(directives: Iterable[str]) -> str:
    return "```{eval-rst}\n" + "\n\n".join(directives) + "\n```"


# the build


def written(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes the pages. One that has not changed keeps its date, so that a second build is short."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        file = folder / name
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
    for stale in set(folder.iterdir()) - {folder / name for name in texts}:
        shutil.rmtree(stale) if stale.is_dir() else stale.unlink()


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", lambda app: written(Path(app.srcdir) / "generated", pages()))
    app.connect("source-read", into_the_site)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
