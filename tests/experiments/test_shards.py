"""Machines that share a folder divide an experiment by its seeds: all of it is done, and nothing twice."""

from pathlib import Path

import pytest
from machines import TINY, reproduce_together

from grfd.commands.reproduce import planned
from grfd.errors import UserError
from grfd.experiments import EXPERIMENTS, fig3, variants
from grfd.experiments.minutes import measured_minutes
from grfd.experiments.shards import Shard, part_of, shard_of
from grfd.experiments.variants import variants_folder


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_cell_belongs_to_one_share_with_its_seed(count: int, tmp_path: Path) -> None:
    whole = planned(EXPERIMENTS, "short", 3, tmp_path)
    wanted = [(each.name, cell.name) for each in whole for cell in each.cells]
    places: dict[tuple[str, str], list[int]] = {}
    done: list[tuple[str, str]] = []
    for number in range(1, count + 1):
        for each in part_of(whole, Shard(number, count)):
            for cell in each.cells:
                done.append((each.name, cell.name))
                places.setdefault((str(each.folder), cell.name.partition(":")[0]), []).append(number)
    assert sorted(done) == sorted(wanted)
    assert all(len(set(numbers)) == 1 for numbers in places.values())
    assert {number for numbers in places.values() for number in numbers} == set(range(1, count + 1))


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "1/0", "1/2/3", "-1/2", "a/b", "1 / 2"])
def test_a_share_must_be_one_of_them(text: str) -> None:
    with pytest.raises(UserError, match="--shard must be K/N"):
        shard_of(text)


def test_two_processes_do_all_of_an_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [("--out", str(tmp_path), "--shard", f"{number}/2") for number in (1, 2)]
    assert reproduce_together(*shares) == [0, 0]
    monkeypatch.setitem(variants.SCHEDULES, "quick", TINY)
    cells = fig3.cells(tmp_path, "quick", 2)
    assert all(cell.done() for cell in cells)
    assert set(measured_minutes(tmp_path, "quick")) == {cell.name for cell in cells}
    assert {file.name for file in tmp_path.glob("minutes*")} == {"minutes-1-of-2.json", "minutes-2-of-2.json"}
    seeds = [variants_folder(tmp_path, "quick", seed) for seed in (0, 1)]
    assert all((seed / "standard" / "standard.safetensors").exists() for seed in seeds)
