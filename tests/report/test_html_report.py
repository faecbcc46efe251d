"""The report: what it says is what the records hold, it stays small, and bad input gets one clear line."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from grfd import evaluate, evaluate_model, runs
from grfd.api import report_examples
from grfd.api.job import Own
from grfd.api.report_data import REPORT_FILE, report, report_content, reproducing_commands
from grfd.api.report_records import reported_runs
from grfd.commands.evaluate import evaluate_command
from grfd.data import Data, from_tensors
from grfd.errors import UserError
from grfd.evaluation import checks, records
from grfd.evaluation.probes import PROBES
from grfd.evaluation.results import Check
from grfd.report.html import page, sprite
from grfd.report.html.advice import ADVICE, raised_flag
from grfd.report.html.charts import training_charts

DEMO = Path(__file__).parents[2] / "results/demo"
ONE = "random outputs"
HOSTILE = "<script>alert(1)</script>"

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def copied(folder: Path) -> Path:
    """The demo without its records."""
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("records", "results.json", "evaluation.json"))
    return folder


@pytest.fixture(scope="session")
def judged_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's models, judged on 20 images that are kept."""
    folder = copied(tmp_path_factory.mktemp("report") / "judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "PROBES", {ONE: PROBES[ONE]})
        evaluate(folder, ("transfer", "whitebox"), ["fgsm"], 20, keep_images=True)
    return folder


def data_of(file: Path) -> dict:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', file.read_text(), re.S)
    assert text is not None
    return json.loads(text[1])


def test_every_check_has_advice() -> None:
    assert set(PROBES) | {"transfer beats white-box", "curve ends near 0"} == set(ADVICE)
    assert raised_flag(Check("grfd", "another check", True, "x"), "GRFD").advice


def test_the_report_is_one_small_file_without_addresses(judged_run: Path) -> None:
    written = report(judged_run)
    text = written.path.read_text()
    assert written.path == judged_run / REPORT_FILE and written.size == written.path.stat().st_size < 10_000_000
    outside = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.S)
    assert not re.search(r'<(img|link|iframe|object)\b| style="| on[a-z]+="', outside)
    assert "unsafe" not in re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]  # type: ignore[index]


def test_pictures_and_predictions_are_those_of_the_records(judged_run: Path) -> None:
    content = report_content(reported_runs([runs.load(judged_run)]))
    explorer = content.explorer.data
    stored = records.read_records(judged_run)
    for case in explorer["cases"]:
        record = stored[case["model"], case["protocol"], case["attack"]]
        assert case["after"] == record.columns["adversarial_prediction"].tolist()
        assert np.allclose(case["distances"], record.columns["norm"], rtol=1e-3)
        assert min(case["tiles"]) >= 0
        # the most probable class is the one that was recorded, except where rounding to float16 decides
        best = [top[0] for top in case["top"]]
        assert np.mean(np.array(best) == case["after"]) >= 0.9
    assert explorer["labels"] == record.columns["label"].tolist()
    assert [table.title for table in content.across] == ["Transfer between models"]
    assert len(content.across[0].lines) == 2


def test_a_tile_of_change_gives_the_adversarial_image_back() -> None:
    clean, attacked = np.random.default_rng(0).integers(0, 256, (2, 5, 3, 8, 8)).astype(np.uint8)
    assert np.array_equal(clean + sprite.change_tiles(clean, attacked), attacked)
    assert sprite.sprite_sheet([]) == b"" and sprite.data_uri(b"") == ""


def test_a_large_evaluation_is_sampled_and_the_report_says_so(
    judged_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_examples, "MOST_EXAMPLES", 10)
    monkeypatch.setattr(report_examples, "SHEET_PIXELS", 5 * 784 * (1 + 2 * 4 + 3))
    part = report_content(reported_runs([runs.load(judged_run)])).explorer
    assert part.examples == 10 and part.data["examples"][-1] == 19
    assert sum(number >= 0 for number in part.data["tiles"]) == 5
    assert "20 examples. 10 of them are shown" in " ".join(part.notes) and "for 5 of the examples" in " ".join(
        part.notes
    )


def test_the_sheet_is_cut_down_to_its_room(judged_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_examples, "REPORT_BYTES", report_examples.OTHER_BYTES + 60_000)
    part = report_content(reported_runs([runs.load(judged_run)])).explorer
    assert all(0 < sum(number >= 0 for number in case["tiles"]) < 20 for case in part.data["cases"])
    assert len(part.sprite) < 60_000 and any("To stay below 10 MB" in note for note in part.notes)


def test_without_kept_images_it_says_how_to_keep_them() -> None:
    content = report_content(reported_runs([runs.load(DEMO)]))
    assert report_examples.KEEP_HINT in content.explorer.notes
    assert content.explorer.data["cases"][0]["tiles"] is None and content.across == ()
    stored = json.loads((DEMO / "results.json").read_text())["rows"]
    worst = next(r for r in stored if (r["model"], r["protocol"], r["attack"]) == ("grfd", "adaptive", "worst"))
    assert f"GRFD classifies {100 * worst['accuracy']:.1f} % (95 % interval {100 * worst['low']:.1f}" in content.verdict


def test_class_and_folder_names_are_escaped(judged_run: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "a <img src=x onerror=alert(1)> & b"
    shutil.copytree(judged_run, hostile)
    text = (hostile / "config.json").read_text().replace('"data": "mnist"', '"data": "tensors"')
    (hostile / "config.json").write_text(text)
    mnist = runs.load(judged_run)
    from grfd.data import load

    known = load(mnist.config.data)
    train, test = known.train.take(100), known.test.take(20)
    named = from_tensors(train.images, train.labels, test.images, test.labels, [HOSTILE, *map(str, range(1, 10))])
    written = report(hostile, own=Own(data=named))
    page_text = written.path.read_text()
    assert HOSTILE not in page_text and "<img src=x" not in page_text
    assert data_of(written.path)["explorer"]["classes"][0] == HOSTILE


def test_several_runs_stand_side_by_side(judged_run: Path, tmp_path: Path) -> None:
    written = report([judged_run, DEMO], tmp_path / "both.html")
    text = written.path.read_text()
    assert "Leaderboard" in text and "Paired differences" in text and written.size < 10_000_000


def test_bad_input_is_one_line(judged_run: Path, tmp_path: Path) -> None:
    fresh = copied(tmp_path / "fresh")
    with pytest.raises(UserError, match="contains no results yet: run grfd evaluate"):
        report(fresh)
    old = tmp_path / "old"
    shutil.copytree(judged_run, old)
    path = records.path_of(old, "grfd", "whitebox", "fgsm")
    record = records.read_record(path)
    assert record is not None
    records.write_record(path, records.Record(record.columns, record.settings | {"judge": 1}))
    with pytest.raises(UserError, match=r"records of version 1 of the judge, and this grfd reads version \d"):
        report(old)
    other = tmp_path / "other"
    shutil.copytree(judged_run, other)
    for path in other.glob("records/*/*/*.npz"):
        record = records.read_record(path)
        assert record is not None
        columns = record.columns | {"image": record.columns["image"] + 1}
        records.write_record(path, records.Record(columns, record.settings))
    with pytest.raises(UserError, match="were judged on different test images"):
        report([judged_run, other], tmp_path / "both.html")


def test_a_missing_library_is_said_before_anything_is_done(
    judged_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    page.chart_library.cache_clear()
    with pytest.raises(UserError, match=re.escape("pip install 'grfd[report]'")):
        report(judged_run, tmp_path / "new.html")
    with pytest.raises(UserError, match=re.escape("pip install 'grfd[report]'")):
        evaluate_command(judged_run, report=True)


def test_the_commands_reproduce_the_run() -> None:
    run = runs.load(DEMO)
    about = json.loads((DEMO / "evaluation.json").read_text())
    train, judge = reproducing_commands(run, about)
    assert train == "grfd train quick --out NEW"
    assert judge.startswith("grfd evaluate NEW --protocols transfer whitebox adaptive --attacks fgsm pgd a3")


def test_a_changed_model_is_not_asked(judged_run: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(judged_run, changed)
    weights = runs.read_tensors(changed / "standard.safetensors")
    zeros = {name: torch.zeros_like(each) for name, each in weights.items()}
    runs.write_tensors(changed / "standard.safetensors", zeros)
    notes = report_content(reported_runs([runs.load(changed)])).explorer.notes
    assert any("missing or have changed: standard" in note for note in notes)


def test_a_users_own_model_is_asked(small: Data, tmp_path: Path, one_probe: None) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    evaluate_model(network, tmp_path / "own", small, protocols=["whitebox"], attacks=["fgsm"], examples=8,
                   keep_images=True)  # fmt: skip
    reported = reported_runs([runs.load(tmp_path / "own")])
    asked = report_content(reported, Own(data=small), {"model": network}).explorer
    assert asked.data["cases"][0]["top"] is not None and asked.notes == ()
    assert report_content(reported, Own(data=small)).explorer.data["cases"][0]["top"] is None


@pytest.mark.parametrize("count", [2, 3, 10, 11, 150])
def test_the_axis_of_epochs_names_epochs_that_were_trained(count: int) -> None:
    epochs = [{"stage": "standard", "epoch": number, "loss": 1 / number} for number in range(1, count + 1)]
    (chart,) = training_charts(epochs)
    ticks = chart.spec["encoding"]["x"]["axis"]["values"]
    assert set(ticks) <= {each["epoch"] for each in epochs} and ticks[0] == 1 and 2 <= len(ticks) <= 10
