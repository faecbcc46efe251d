"""What experiments cost: sums of measured minutes, over all machines that shared a folder."""

from pathlib import Path

from grfd.experiments.costs import costs_section
from grfd.experiments.minutes import store_minutes


def test_minutes_are_added_over_cells_scales_and_machines(tmp_path: Path) -> None:
    assert costs_section(tmp_path) == []
    store_minutes(tmp_path / "law", "short", "seed 0: a", 1.5)
    store_minutes(tmp_path / "law", "short", "seed 0: b", 2.5, "minutes-2-of-2.json")
    store_minutes(tmp_path / "variants", "quick", "seed 0: a", 8.0)
    lines = [[cell.strip() for cell in line.split("|")] for line in costs_section(tmp_path)[-1].splitlines()]
    table = {(line[1], line[2]): (line[3], line[4]) for line in lines}
    assert table["law", "short"] == ("2", "4")
    assert table["variants", "quick"] == ("1", "8")
    assert table["all", ""] == ("", "12")
