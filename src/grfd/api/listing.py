"""The fitted models below a folder, each with its clean accuracy and its worst case: where to find what was trained."""

from dataclasses import dataclass
from pathlib import Path

from grfd import runs
from grfd.api.job import as_path
from grfd.defenses import DEFENSES, is_fitted, standard
from grfd.errors import UserError
from grfd.evaluation.numbers import counted
from grfd.evaluation.results import Results, Row
from grfd.evaluation.stored import judged_as, results_of
from grfd.files import is_there
from grfd.runs import Run

_PROTOCOLS = ("adaptive", "whitebox")
"""The attackers whose worst case is shown: the first of them that was run."""


@dataclass(frozen=True)
class FittedModel:
    """A defense whose weights lie in a run folder. `clean` and `worst` are None if it has not been judged there.

    `worst`: the share of images that are right under all `attacks` of a protocol, at the ε of Table 1; in a run that
    was judged at others only, at the first of them. `flags`: the masking checks that see a reason to doubt it.
    """

    run: str
    defense: str
    data: str
    network: str
    clean: Row | None
    worst: Row | None
    attacks: tuple[str, ...]
    flags: tuple[str, ...]
    megabytes: float


def fitted_models(folder: str | Path = "results") -> list[FittedModel]:
    """All fitted defenses in the run folders below a folder, by path; the second standard model is left out.

    Folders that grfd did not make are passed over, also those with a config.json of another program. Load a model with
    `grfd.load_defense(model.run, defense=model.defense)`. Raises `UserError` if the folder is not there, or if a run
    below it is damaged.
    """
    above = as_path(folder, "the folder")
    if not above.is_dir():
        problem = "is no folder" if is_there(above) else "is not there"
        raise UserError(f"{above} {problem}: give a folder that contains run folders, such as runs")
    found = sorted(file.parent for file in above.rglob("config.json"))
    return [model for path in found if _is_run(path) for model in _of_run(runs.load(path))]


def _is_run(path: Path) -> bool:
    """Whether a folder holds weights, and a config.json that grfd wrote, though it may be damaged."""
    config = path / "config.json"
    return (
        any(path.glob("*.safetensors")) and config.is_file() and '"git_revision"' in config.read_text(errors="replace")
    )


def _of_run(run: Run) -> list[FittedModel]:
    names = [name for name, module in DEFENSES.items() if module.FILES and is_fitted(run, name)]
    if elsewhere := judged_as(run.path):  # the others are there because training needs them
        names = [elsewhere.defense] if elsewhere.defense in names else []
    return [_model(run, results_of(run.path, name), name) for name in names if name != standard.SECOND]


def _model(run: Run, results: Results | None, name: str) -> FittedModel:
    results = results or Results((), ())
    mine = [row for row in results.rows if row.target is None]
    threats = dict.fromkeys((row.norm, row.eps) for row in mine)
    threat = (None, None) if (None, None) in threats else next(iter(threats), (None, None))
    rows = [row for row in mine if (row.norm, row.eps) == threat]
    worst = next((row for each in _PROTOCOLS for row in rows if (row.protocol, row.attack) == (each, "worst")), None)
    shared = [row for row in rows if worst is not None and row.protocol == worst.protocol]
    return FittedModel(
        str(run.path),
        name,
        run.config.data,
        run.config.model,
        next((row for row in shared if row.attack == "none"), None),
        worst,
        tuple(counted(worst, shared)) if worst else (),
        tuple(check.name for check in results.checks if check.flagged),
        sum(run.file(file).stat().st_size for file in DEFENSES[name].FILES) / 1e6,
    )
