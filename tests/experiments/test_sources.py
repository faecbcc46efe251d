"""Transfer by source: what is trained is kept, GRFD and no defense face the same examples, the page has its section."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import ONE_PROBE
from rich.console import Console

from grfd.config import Config
from grfd.evaluation import checks, records
from grfd.experiments import cells, sources

TINY = sources._Scale(
    Config(epochs=1, classifier_epochs=1, latent=8, train_examples=200, device="cpu"), ("the preset's", "batch 64"), 4
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of one seed, in which the first two cells were run, then the others, at the scale `TINY`."""
    folder = tmp_path_factory.mktemp("sources")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sources._SCALES, "quick", TINY)
        patched.setattr(sources, "PAPER_ATTACKS", ("fgsm", "pgd"))
        patched.setattr(sources, "TABLE_1_ATTACKS", ("fgsm", "pgd"))
        patched.setattr(checks, "PROBES", {ONE_PROBE: checks.PROBES[ONE_PROBE]})
        todo = sources.cells(folder, "quick", 1)
        cells.run(todo[:2])
        assert [cell.done() for cell in todo] == [True, True, False, False, False]
        cells.run(todo)
        yield folder


def test_what_is_trained_and_judged_is_done(out: Path) -> None:
    assert all(cell.done() for cell in sources.cells(out, "quick", 1))


def test_no_source_is_one_of_the_attacked_models(out: Path) -> None:
    victims, source = (out / "quick-seed-0" / name / "standard.safetensors" for name in ("victims", "source-0"))
    assert victims.read_bytes() != source.read_bytes()


def test_grfd_and_no_defense_face_the_same_examples(out: Path) -> None:
    folder = sources._judged_folder(out, "quick", 0, "batch 64")
    norms = [records.read_record(records.path_of(folder, victim, "transfer", "pgd")) for victim in sources._VICTIMS]
    assert (norms[0].columns["norm"] == norms[1].columns["norm"]).all()


def test_the_papers_average_is_that_of_the_attacks_in_the_table(out: Path) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    for part in sources.show(out, "quick", 1):
        console.print(part)
    said = console.export_text()
    assert "no defense" in said and "93.7" not in said and "91.9" in said  # (88.19 + 95.59) / 2


def test_the_page_has_a_section_for_what_is_committed(out: Path, tmp_path: Path) -> None:
    assert sources.section(tmp_path) == []
    shutil.copytree(out / "quick-seed-0", tmp_path / "sources/paper-seed-0")
    section = "\n".join(sources.section(tmp_path))
    assert section.count("| GRFD |") == 3 and "| batch 64 | itself, white-box |" in section
