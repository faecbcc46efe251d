"""Machines that share a folder divide an experiment among them: all of it is done, and nothing twice."""

import multiprocessing
import time
from pathlib import Path

import pytest
from machines import TINY, logged_cells, reproduce_together, work_together

from grfd.commands.reproduce import planned
from grfd.errors import UserError
from grfd.experiments import EXPERIMENTS, fig3, variants
from grfd.experiments.minutes import measured_minutes
from grfd.experiments.shards import Shard, in_turn, part_of, shard_of
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
    assert {file.name for file in tmp_path.glob("minutes*")} <= {"minutes-1-of-2.json", "minutes-2-of-2.json"}
    assert not (tmp_path / "locks").exists()
    seeds = [variants_folder(tmp_path, "quick", seed) for seed in (0, 1)]
    assert all((seed / "standard" / "standard.safetensors").exists() for seed in seeds)


def test_every_machine_begins_with_its_own_share_and_goes_on_with_the_others(tmp_path: Path) -> None:
    whole = planned(EXPERIMENTS, "short", 3, tmp_path)
    wanted = sorted((each.name, cell.name) for each in whole for cell in each.cells)
    for number in (1, 2, 3):
        turns = [(each.name, cell.name) for each in in_turn(whole, Shard(number, 3)) for cell in each.cells]
        own = [(each.name, cell.name) for each in part_of(whole, Shard(number, 3)) for cell in each.cells]
        assert turns[: len(own)] == own and sorted(turns) == wanted


def test_two_machines_divide_the_trainings_of_one_seed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(2)
    workers = [context.Process(target=work_together, args=(tmp_path, 0.5, together.wait)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    lines = [line.split(", ") for line in (tmp_path / "log").read_text().splitlines()]
    names = [name for name, _ in lines]
    assert sorted(names) == sorted(cell.name for cell in logged_cells(tmp_path, 0)), "nothing is done twice"
    assert names[0] == "seed 0: standard models" and names[-1] == "seed 0: judge"
    assert len({machine for _, machine in lines}) == 2, "both have worked"


def test_what_a_killed_machine_was_doing_is_done_by_another(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=work_together, args=(tmp_path, 600))
    (tmp_path / "seed 0: standard models").touch()
    worker.start()
    log = tmp_path / "log"
    while not (log.exists() and "train a" in log.read_text()):
        assert worker.is_alive()
        time.sleep(0.05)
    worker.kill()
    worker.join()
    work_together(tmp_path, 0)
    assert all(cell.done() for cell in logged_cells(tmp_path, 0))
    assert log.read_text().count("train a") == 2
