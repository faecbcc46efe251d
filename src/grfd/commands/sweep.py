"""The grid of Table 2, shared by many workers."""

from pathlib import Path
from typing import Literal

from grfd.commands.arguments import Mode
from grfd.errors import masked
from grfd.progress import answer_alone, console, print_json
from grfd.report.sheets import printed
from grfd.schema import Count, Seed

MODES: tuple[Mode, ...] = (
    Mode(
        "grfd sweep --dry-run",
        lambda asked: asked["dry_run"],
        ("trials", "pruner"),
        "it is for a worker that takes points",
    ),
)
"""How `grfd sweep` can be called, and which of its options do nothing then."""


def sweep_command(
    *,
    scale: str = "quick",
    seed: Seed = 0,
    epsilon: tuple[float, ...] = (),
    gamma: tuple[float, ...] = (),
    delta: tuple[float, ...] = (),
    out: Path = Path("runs/variants"),
    storage: str | None = None,
    study: str = "table2",
    objective: Literal["worst", "clean-and-worst"] = "worst",
    pruner: Literal["none", "median"] = "none",
    trials: Count | None = None,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Try the grid of Table 2, or a part of it; the same command on more machines shares the work (docs/sweeps.md).

    Args:
        scale: quick, short or paper: the schedule that each point is trained and judged by.
        seed: Of all points.
        epsilon: Some of 0, 0.1 … 0.7 (all where none is named).
        gamma: Some of 0, 0.1 … 0.7.
        delta: Some of 0, 0.2 … 1.4.
        out: The folder of the trainings, shared with grfd reproduce.
        storage: The study's database, as an SQLAlchemy URL; a SQLite file in --out where it is not given.
        study: Its name in the database.
        objective: What is looked for, under adaptive: the worst case, or clean accuracy and worst case.
        pruner: median ends a point that is below the median after an attack, before the dearer ones.
        trials: Points that this worker takes at most (until none is left where it is not given).
        dry_run: Count the points and those that are done, and do nothing.
        json: Print JSON instead: counts of points by state, and what --dry-run does not have, the table of the best.
    """
    from grfd.experiments import database
    from grfd.experiments import sweep as sweeping

    todo = sweeping.points(epsilon=epsilon, gamma=gamma, delta=delta)
    url = storage or sweeping.default_storage(out)
    settings = sweeping.checked_sweep(sweeping.Sweep(out, scale, seed, url, study, objective, pruner))
    with database.errors_of(url):
        if dry_run:
            with answer_alone(json):
                counts = sweeping.known(settings)
            if json:
                facts = {"scale": scale, "seed": seed, "objective": objective, "storage": masked(url)}
                print_json(facts | {"points": len(todo), "states": counts})
            else:
                asked = f"{len(todo)} points at {scale}, seed {seed}, for {objective}"
                console.print(f"{asked}; in {masked(url)}: {_in_words(counts)}")
            return
        with answer_alone(json):
            opened = sweeping.opened(settings, todo)
            sweeping.work(settings, opened, todo, trials)
            best, counts = sweeping.best(opened, objective), sweeping.state(opened)
        if json:
            table = {"title": best.title, "columns": best.header, "rows": best.rows}
            print_json({"states": counts, "best": table})
        else:
            console.print(printed(best))
            console.print(_in_words(counts))


def _in_words(counts: dict[str, int] | None) -> str:
    """How many points are in which state. `counts`: None where there is no study."""
    if counts is None:
        return "no study yet"
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no points yet"
