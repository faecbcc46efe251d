"""Rows of Table 2 against the paper's."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from grfd.attacks import TABLE_1_ATTACKS
from grfd.evaluation import records
from grfd.evaluation.records import Record
from grfd.experiments.paper import TABLE_2
from grfd.experiments.table2 import changes_of_row, rank_correlation
from grfd.experiments.variant_records import VARIANTS_FILE, read_variants


def test_rows_in_the_papers_order_correlate_with_it(tmp_path: Path, record_of: Callable[[np.ndarray], Record]) -> None:
    """Records whose accuracies rise with the paper's averages, then fall with them."""
    means = {weights: sum(paper[attack] for attack in TABLE_1_ATTACKS) for weights, paper in TABLE_2.items()}
    for name, sign in (("with", 1), ("against", -1)):
        folder, about = tmp_path / name, {}
        for rank, weights in enumerate(sorted(TABLE_2, key=lambda each: sign * means[each])):
            changes = changes_of_row(*weights)
            about[f"row-{rank}"] = {"changes": changes, "deployed": "target"}
            for attack in TABLE_1_ATTACKS:
                path = records.path_of(folder, f"row-{rank}", "whitebox", attack)
                records.write_record(path, record_of(np.arange(100) < 50 + rank))
        (folder / VARIANTS_FILE).write_text(json.dumps(about))
        (folder / "config.json").write_text(json.dumps({"config": {"data": "mnist"}}))
        correlation = rank_correlation(read_variants([folder]), "whitebox")
        assert correlation is not None and correlation[0] == pytest.approx(sign)
        assert correlation[1] < 0.001
