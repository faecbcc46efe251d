"""The explorer of a report: every example, with pictures and probabilities as far as they fit and are known."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from grfd.api.report_models import RANDOM_EXAMPLES, ReportedModels, adversarial_of, answers_of
from grfd.api.report_records import ReportedCase, ReportedRun
from grfd.attacks.budgets import NORM_TITLES
from grfd.attacks.registry import entry_of
from grfd.data.record import as_images
from grfd.defenses import is_stochastic
from grfd.evaluation.numbers import column_titles
from grfd.progress import progress
from grfd.report.html.content import ExplorerPart
from grfd.report.html.entries import title_of
from grfd.report.html.page import as_script_data
from grfd.report.html.sprite import change_tiles, data_uri, eight_bits, sheet_columns, sprite_sheet

MOST_EXAMPLES = 1000
"""Number of examples in a report. From a larger evaluation, examples at equal distances are taken."""
REPORT_BYTES = 9_800_000
"""Largest size of a report."""
OTHER_BYTES = 1_200_000
"""What the chart library, tables and charts take of it at most."""
TEXT_BYTES = 4_000_000
"""What the records take of it at most, estimated by `EXAMPLE_BYTES`."""
EXAMPLE_BYTES = 14
"""The size of one example in one record: two predictions and a distance."""
SHEET_PIXELS = 32_000_000
"""Most pixels of the sprite sheet: a browser decodes all of it."""
KEEP_HINT = (
    "The adversarial images of this evaluation were not kept, so the explorer shows clean images, predictions and "
    "outcomes. To keep them: grfd evaluate RUN --keep-images."
)


@dataclass(eq=False)
class _Sheet:
    """Tiles by the example that they belong to, so that whole examples can be left out."""

    tiles: list[tuple[int, list[int], np.ndarray]] = field(default_factory=list)
    """(place of the example, the list whose entry at that place becomes the number of the tile, the tile)."""

    def add(self, places: Sequence[int], numbers: list[int], tiles: np.ndarray) -> None:
        self.tiles += [(place, numbers, tile) for place, tile in zip(places, tiles, strict=True)]


def explorer_part(reported: Sequence[ReportedRun], loaded: ReportedModels) -> ExplorerPart:
    """The explorer of all runs."""
    cases = [case for each in reported for case in each.cases]
    total = max(len(case.record) for case in cases)
    share = TEXT_BYTES / (EXAMPLE_BYTES * max(sum(len(case.record) for case in cases), 1))
    chosen = evenly(total, max(min(MOST_EXAMPLES, int(share * total)), 1))
    longest = max((case.record for case in cases), key=len)
    data = _without_pictures(reported, loaded, cases, chosen)
    data["labels"] = longest.columns["label"][chosen].tolist()
    notes = list(loaded.notes)
    if len(chosen) < total:
        notes.append(f"The evaluation has {total:,} examples. {len(chosen):,} of them are shown, at equal distances.")
    if all(case.kept is None for case in cases):
        notes.append(KEEP_HINT)
    sheet, pictured = b"", 0
    if loaded.data is not None:
        sheet, pictured = _add_pictures(data, loaded, cases, chosen)
        if pictured < len(chosen):
            notes.append(f"To stay below 10 MB, adversarial images are shown for {pictured:,} of the examples.")
    return ExplorerPart(data, data_uri(sheet), len(chosen), tuple(notes))


def evenly(total: int, most: int) -> list[int]:
    """At most `most` of the numbers from 0 to `total` − 1, at equal distances."""
    if total <= most:
        return list(range(total))
    return sorted({int(place) for place in np.linspace(0, total - 1, most)})


def _without_pictures(
    reported: Sequence[ReportedRun], loaded: ReportedModels, cases: list[ReportedCase], chosen: list[int]
) -> dict[str, Any]:
    """What the records say, in the form that the page's script reads.

    The lists of a record that has fewer examples than another are shorter.
    """
    keys = list(dict.fromkeys((case.run, case.task.model) for case in cases))
    names = dict.fromkeys(case.task.model for case in cases)
    attacks = dict.fromkeys(case.task.attack for case in cases)
    count = len(chosen)
    return {
        "classes": list(loaded.data.classes) if loaded.data is not None else [],
        "size": list(loaded.data.test.images.shape[1:]) if loaded.data is not None else [1, 1, 1],
        "columns": 1,
        "runs": [each.title for each in reported],
        "titles": {name: title_of(name) for name in names},
        "attacks": {name: column_titles().get(name, name) for name in attacks},
        "examples": chosen,
        "tiles": [-1] * count,
        "models": [{"run": run, "name": name, "signed": False, "seen": None, "top": None, "margins": None}
                   for run, name in keys],
        "cases": [_case(case, keys.index((case.run, case.task.model)), chosen) for case in cases],
    }  # fmt: skip


def _case(case: ReportedCase, model: int, chosen: list[int]) -> dict[str, Any]:
    task, columns, known = case.task, case.record.columns, len(case.record)
    places = [place for place in chosen if place < known]
    distances = [float(f"{value:.4g}") for value in columns["norm"][places].tolist()]
    return {
        "run": case.run, "model": task.model, "of": model, "protocol": task.protocol, "threat": threat_title(case),
        "attack": task.attack, "measure": _measure(case), "before": columns["clean_prediction"][places].tolist(),
        "after": columns["adversarial_prediction"][places].tolist(), "distances": distances,
        "tiles": None, "seen": None, "top": None, "margins": None,
    }  # fmt: skip


def threat_title(case: ReportedCase) -> str:
    """The threat model of a case, in words."""
    task = case.task
    text = "Table 1" if task.ball is None else str(task.ball)
    return text if task.target is None else f"{text}, towards {task.target}"


def _measure(case: ReportedCase) -> str:
    attack = case.task.attack
    threat = "linf" if ":" in attack else entry_of(attack).threat
    norm = str(case.record.settings["attack"].get("norm", threat))
    return NORM_TITLES.get(norm, "largest change of a pixel")


def _add_pictures(
    data: dict[str, Any], loaded: ReportedModels, cases: list[ReportedCase], chosen: list[int]
) -> tuple[bytes, int]:
    """Adds pictures and probabilities of as many examples as fit. Returns the sheet and the number of the examples."""
    assert loaded.data is not None
    height, width = loaded.data.test.images.shape[2:]
    each = 1 + sum(2 for case in cases if case.kept is not None) + len(data["models"])
    places = evenly(len(chosen), max(SHEET_PIXELS // (height * width * each), 1))
    sheet = _Sheet()
    images = as_images(loaded.data.test.images[[chosen[place] for place in places]])
    sheet.add(places, data["tiles"], eight_bits(images.numpy()))
    with progress("report", len(data["models"]) + len(cases)) as advance:
        for model in data["models"]:
            _add_model(sheet, model, loaded, (places, chosen, images))
            advance(1, title_of(model["name"]))
        for entry, case in zip(data["cases"], cases, strict=True):
            if case.kept is not None:
                _add_case(sheet, entry, data["models"][entry["of"]], case, loaded, (places, chosen, images))
            advance(1, f"{case.task.attack} {case.task.protocol} {case.task.model}")
    return _encoded(data, sheet, places)


_Pictured = tuple[list[int], list[int], torch.Tensor]
"""The places of the pictured examples, the numbers of all chosen examples, and the clean images at these places."""


def _add_model(sheet: _Sheet, entry: dict[str, Any], loaded: ReportedModels, pictured: _Pictured) -> None:
    """The answers of a model to clean images."""
    places, chosen, images = pictured
    model = loaded.models[entry["run"]].get(entry["name"])
    if model is None or loaded.data is None:
        return
    if is_stochastic(model):
        places, images = places[:RANDOM_EXAMPLES], images[:RANDOM_EXAMPLES]
    labels = loaded.data.test.labels[[chosen[place] for place in places]]
    answers = answers_of(model, images, labels, loaded.seeds[entry["run"]])
    count = len(chosen)
    entry["top"], entry["margins"] = _spread(answers.top, places, count), _spread(answers.margins, places, count)
    if answers.seen is not None:
        entry["signed"] = bool(answers.seen.min() < -0.01)
        entry["seen"] = [-1] * count
        sheet.add(places, entry["seen"], _visible(answers.seen, entry["signed"]))


def _add_case(
    sheet: _Sheet,
    entry: dict[str, Any],
    model_entry: dict[str, Any],
    case: ReportedCase,
    loaded: ReportedModels,
    pictured: _Pictured,
) -> None:
    """The adversarial images of a case, and the answers to them."""
    places, chosen, images = pictured
    assert case.kept is not None
    rows = [row for row, place in enumerate(places) if chosen[place] < min(len(case.kept), len(case.record))]
    model = loaded.models[case.run].get(case.task.model)
    places, clean = [places[row] for row in rows], images[rows]
    numbers = [chosen[place] for place in places]
    adversarial = adversarial_of(case, clean, numbers)
    entry["tiles"] = [-1] * len(chosen)
    sheet.add(places, entry["tiles"], change_tiles(eight_bits(clean.numpy()), eight_bits(adversarial.numpy())))
    if model is None or loaded.data is None or not places:
        return
    if is_stochastic(model):
        places, numbers = places[:RANDOM_EXAMPLES], numbers[:RANDOM_EXAMPLES]
        adversarial = adversarial[:RANDOM_EXAMPLES]
    labels = loaded.data.test.labels[numbers]
    answers = answers_of(model, adversarial, labels, loaded.seeds[case.run], case.task.protocol)
    entry["top"] = _spread(answers.top, places, len(chosen))
    entry["margins"] = _spread(answers.margins, places, len(chosen))
    if answers.seen is not None:
        entry["seen"] = [-1] * len(chosen)
        sheet.add(places, entry["seen"], _visible(answers.seen, model_entry["signed"]))


def _visible(seen: np.ndarray, signed: bool) -> np.ndarray:
    return eight_bits((seen + 1) / 2 if signed else seen)


def _spread(values: Sequence[Any], places: Sequence[int], count: int) -> list[Any]:
    """A list of `count` entries with the values at their places and None elsewhere."""
    known = dict(zip(places, values, strict=True))
    return [known.get(place) for place in range(count)]


def _encoded(data: dict[str, Any], sheet: _Sheet, places: list[int]) -> tuple[bytes, int]:
    """The sheet, of fewer examples if it were too large. The numbers of the tiles are entered into the lists."""
    room = (REPORT_BYTES - OTHER_BYTES - len(as_script_data(data))) * 3 // 4  # base64 is a third larger
    small = len(sprite_sheet([tile for _, numbers, tile in sheet.tiles if numbers is data["tiles"]])) < room // 3
    while True:
        kept = set(places)
        # clean images stay, as far as there is room for them
        tiles = [each for each in sheet.tiles if each[0] in kept or (small and each[1] is data["tiles"])]
        png = sprite_sheet([tile for _, _, tile in tiles])
        if len(png) <= room or len(places) == 1:
            break
        most = max(int(0.95 * len(places) * room / len(png)), 1)
        places = [places[index] for index in evenly(len(places), most)]
    for number, (place, numbers, _) in enumerate(tiles):
        numbers[place] = number
    data["columns"] = sheet_columns(len(tiles))
    return png, len(places)
