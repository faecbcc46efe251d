"""Keeping a run among the committed results."""

from pathlib import Path

from rich import box
from rich.table import Table

from grfd.api import keeping
from grfd.commands.evaluate import RunFolder
from grfd.experiments.minutes import keep_minutes
from grfd.progress import answer_alone, console, print_json


def keep_command(run: RunFolder, *, results: Path = Path("results"), replace: bool = False, json: bool = False) -> None:
    """Copy a run from runs/ to the same place in results/: records, settings, metrics and small weights.

    `grfd page` writes its pages from results/. Checkpoints, figures and weights of more than 7 MB are left out.

    Args:
        run: The run folder, below a folder named runs.
        results: The folder of the kept runs.
        replace: Also exchange a kept run that holds records which this run lacks.
        json: Print {"kept": path, "files": [...], "left_out": [...]} instead.
    """
    with answer_alone(json):
        destination, files = keeping.keep(run, results, replace=replace)
        keep_minutes(run, destination)
    copied, left_out = [each for each in files if not each.reason], [each for each in files if each.reason]
    if json:
        facts = {"path": str, "size": int, "reason": str}
        rows = [{name: kind(getattr(each, name)) for name, kind in facts.items()} for each in files]
        print_json({"kept": str(destination), "files": [row for row in rows if not row["reason"]],
                    "left_out": [row for row in rows if row["reason"]]})  # fmt: skip
        return
    console.print(f"{destination}: {len(copied)} files, {sum(each.size for each in copied):,} bytes")
    if left_out:
        table = Table("left out", "bytes", "reason", box=box.SIMPLE_HEAD)
        for each in left_out:
            table.add_row(str(each.path), f"{each.size:,}", each.reason)
        console.print(table)
    weights = keeping.size_of_weights(results)
    if weights > keeping.ALL_WEIGHTS:
        console.print(f"The weights in {results} are {weights:,} bytes, more than {keeping.ALL_WEIGHTS:,}.")
