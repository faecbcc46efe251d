"""Rows of Table 2 against the paper's."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from grfd.attacks import TABLE_1_ATTACKS
from grfd.evaluation import records
from grfd.evaluation.records import Record
from grfd.experiments import variant_numbers as report
from grfd.experiments.paper import TABLE_2


def test_rows_in_the_papers_order_correlate_with_it(tmp_path: Path, record_of: Callable[[np.ndarray], Record]) -> None:
    """Records whose accuracies rise with the paper's averages, then fall with them."""
    means = {weights: sum(paper[attack] for attack in TABLE_1_ATTACKS) for weights, paper in TABLE_2.items()}
    for name, sign in (("with", 1), ("against", -1)):
        folder, about = tmp_path / name, {}
        for rank, weights in enumerate(sorted(TABLE_2, key=lambda each: sign * means[each])):
            changes = report._differing(**dict(zip(("epsilon", "gamma", "delta"), weights, strict=True)))
            about[f"row-{rank}"] = {"changes": changes, "deployed": "target"}
            for attack in TABLE_1_ATTACKS:
                path = records.path_of(folder, f"row-{rank}", "whitebox", attack)
                records.write_record(path, record_of(np.arange(100) < 50 + rank))
        (folder / report.VARIANTS).write_text(json.dumps(about))
        (folder / "config.json").write_text(json.dumps({"config": {"data": "mnist"}}))
        found = report.rank_correlation(report.read([folder]), "whitebox")
        assert found is not None and found[0] == pytest.approx(sign)
        assert found[1] < 0.001
