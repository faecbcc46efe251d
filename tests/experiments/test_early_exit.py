"""Records of transferred examples that left their attack at its first success: the page says which they are."""

import json
from pathlib import Path

import numpy as np
import pytest

from grfd.experiments.page import _early_exit
from grfd.experiments.records import early_note

OLD, NEW = {"attack": {"eps": 0.1}}, {"attack": {"eps": 0.1}, "transfer": {"steps": "all"}}


@pytest.mark.parametrize("root", ["records", "threat-models/linf-0.1"])
@pytest.mark.parametrize("settings", [OLD, NEW])
def test_a_section_and_the_page_warn_of_old_records(tmp_path: Path, root: str, settings: dict[str, object]) -> None:
    folder = tmp_path / "rsm/short-seed-0"
    file = folder / root / "grfd/transfer/pgd.npz"
    file.parent.mkdir(parents=True)
    np.savez(file, settings=np.array(json.dumps(settings)))
    note, warning = early_note([tmp_path / "empty", folder]), _early_exit(tmp_path)
    assert (len(note) == 1) == ("rsm/short-seed-0" in warning) == (settings is OLD)
    assert all(part.startswith("†") for part in note)


def test_without_records_nothing_is_said(tmp_path: Path) -> None:
    assert early_note([tmp_path]) == [] and _early_exit(tmp_path) == ""
