"""Transfer by source: what is trained is kept, GRFD and no defense face the same examples, the page has its section."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from grfd.config import Config
from grfd.evaluation import records
from grfd.experiments import cells, sources

TINY = sources._Scale(
    Config(epochs=1, classifier_epochs=1, latent=8, train_examples=200, device="cpu"), ("the preset's", "batch 64"), 4
)


def test_from_training_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_probe: None) -> None:
    monkeypatch.setitem(sources._SCALES, "quick", TINY)
    monkeypatch.setattr(sources, "PAPER_ATTACKS", ("fgsm", "pgd"))
    monkeypatch.setattr(sources, "TABLE_1_ATTACKS", ("fgsm", "pgd"))
    todo = sources.cells(tmp_path, "quick", 1)
    cells.run(todo[:2])
    assert [cell.done() for cell in todo] == [True, True, False, False, False]
    cells.run(todo)
    assert all(cell.done() for cell in todo)
    weights = [tmp_path / "quick-seed-0" / name / "standard.safetensors" for name in ("victims", "source-0")]
    assert weights[0].read_bytes() != weights[1].read_bytes(), "the source is a victim"
    folder = sources._judged_folder(tmp_path, "quick", 0, "batch 64")
    norms = [records.read_record(records.path_of(folder, victim, "transfer", "pgd")) for victim in sources._VICTIMS]
    assert (norms[0].columns["norm"] == norms[1].columns["norm"]).all(), "they face other examples"
    console = Console(width=160, record=True, file=io.StringIO())
    for part in sources.show(tmp_path, "quick", 1):
        console.print(part)
    said = console.export_text()
    assert "no defense" in said and "93.7" not in said and "91.9" in said  # (88.19 + 95.59) / 2
    assert sources.section(tmp_path / "results") == []
    (tmp_path / "results/sources").mkdir(parents=True)
    (tmp_path / "quick-seed-0").rename(tmp_path / "results/sources/paper-seed-0")
    section = "\n".join(sources.section(tmp_path / "results"))
    assert section.count("| GRFD |") == 3 and "| batch 64 | itself, white-box |" in section
