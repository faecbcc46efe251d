"""The report of one or several runs as one HTML file."""

from pathlib import Path

import tyro

from grfd.api.job import Own
from grfd.api.report_data import WrittenReport, report
from grfd.progress import answer_alone, console, print_json


def report_command(
    runs: tyro.conf.Positional[tuple[Path, ...]] = (),
    *,
    out: Path | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Write one HTML file on an evaluated run, with every example, or on several runs side by side.

    The file contains all that it needs and opens without a network: the verdict, the tables with intervals, the checks
    for gradient masking with what to do about them, charts, an explorer of the examples, settings and versions.
    Adversarial images are shown where grfd evaluate --keep-images has kept them.

    Args:
        runs: The run folders. Several must have been judged on the same images.
        out: The file, which ends in .html. The default is report.html in the run folder; for several runs, it is
            report.html in the current folder.
        trust: Import the code that a run folder names as its model. Without this option, such models are left out.
        json: Print {"report": path, "bytes": ..., "examples": ...} instead.
    """
    with answer_alone(json):
        written = report(runs, out, Own(trust=trust))
    if json:
        print_json({"report": str(written.path), "bytes": written.size, "examples": written.examples})
    else:
        print_written(written)


def print_written(written: WrittenReport) -> None:
    """Prints the line that names a report."""
    size = written.size / 1e6
    line = f"Report: {written.path} ({size:.1f} MB, {written.examples:,} examples)"
    console.print(line, highlight=False, markup=False, soft_wrap=True)
