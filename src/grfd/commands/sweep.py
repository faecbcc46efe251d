"""The grid search of Table 2, shared by many workers."""

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
        "it is for a worker that trains points of the grid",
    ),
)
"""Ways of calling `grfd sweep` in which some of its options have no effect."""


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
    """Search the grid of Table 2, or a part of it. The same command on more machines shares the work (docs/sweeps.md).

    Args:
        scale: quick, short or paper: the schedule by which each point is trained and judged.
        seed: Seed of all points.
        epsilon: Values of ε among 0, 0.1 … 0.7. The default is all.
        gamma: Values of γ among 0, 0.1 … 0.7. The default is all.
        delta: Values of δ among 0, 0.2 … 1.4. The default is all.
        out: The folder of the trainings, shared with grfd reproduce.
        storage: Database of the study, as an SQLAlchemy URL. The default is an SQLite file in --out.
        study: Name of the study in the database.
        objective: What is maximised under adaptive: the worst case, or both clean accuracy and the worst case.
        pruner: median stops a point that is below the median after one attack, before the more expensive attacks.
        trials: Largest number of points for this worker. By default it continues until none is left.
        dry_run: Only count the points, in total and by state.
        json: Print JSON: the numbers of points by state and, except for --dry-run, the table of the best points.
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
    """The number of points in each state. `counts`: None if there is no study."""
    if counts is None:
        return "no study yet"
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no points yet"
