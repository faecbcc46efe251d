import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grfd.errors import UserError
from grfd.training import metrics

FIRST, SECOND = {"stage": "a", "epoch": 1, "loss": 2.0}, {"stage": "a", "epoch": 2, "loss": 1.0}


def lines(*rows: dict[str, object]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_rows_of_this_epoch_or_a_later_one_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    other = {"stage": "b", "epoch": 5}
    for row in (FIRST, other, SECOND, FIRST | {"loss": 3.0}):
        metrics.append_epoch(file, row)
    assert metrics.read_epochs(file) == [other, FIRST | {"loss": 3.0}]


DAMAGE = [
    b"garbage",
    b"{",
    b"",
    b"[]",
    b"3",
    b"\xff\xfe",
    b"[" * 99_999,
    b'{"stage": "a"}',
    b'{"stage": 1, "epoch": 9}',
]
DAMAGE += [b'{"stage": "a", "epoch": "9"}', b'{"stage": "a", "epoch": null}', b"\0\0"]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: str(damage[:20]))
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_that_cannot_be_read_is_kept_and_stops_nothing(tmp_path: Path, damage: bytes, end: bytes) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(lines(FIRST) + damage + end)
    assert metrics.read_epochs(file) == [FIRST]
    metrics.append_epoch(file, SECOND)
    kept = damage + b"\n" if damage or end else b""
    assert file.read_bytes() == lines(FIRST) + kept + lines(SECOND)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_kept(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(content)
    metrics.append_epoch(file, FIRST)
    ended = content if not content or content.endswith(b"\n") else content + b"\n"
    assert file.read_bytes() == (ended or b"\n") + lines(FIRST)
    assert metrics.read_epochs(file) == [FIRST]


def test_a_folder_in_its_place_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a regular file"):
        metrics.append_epoch(tmp_path, FIRST)
