"""The claims of the paper's abstract and of its sections 4.2 to 4.6, and what the committed records say of them."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from grfd.evaluation.intervals import bootstrap
from grfd.evaluation.protocols import COMPARED, Protocol
from grfd.evaluation.records import read_settings
from grfd.evaluation.spread import spread
from grfd.experiments import fig2
from grfd.experiments.claims.listed import CLAIMS, EVIDENCE, Claim
from grfd.experiments.claims.measure import ClaimNumbers, Columns
from grfd.experiments.records import config_of, left_early
from grfd.experiments.variant_records import VariantRecords
from grfd.report.sheets import Sheet, markdown

_HEAD = """## The paper's claims, and what was found

Each line is one claim, with the number that the paper prints for it. The paper does not say what its attacker knows, so
a claim about attacks has a verdict under each protocol; one about clean accuracy has its number in the column
`whitebox`. A number with a sign is a difference in points between two models on the same images, *against* the one that
is named. Examples under `transfer` are made on the standard model, so no defense is there the 2nd standard. *± x* is
the standard deviation over seeds, and in brackets is the 95 % interval over images.

- *Reproduced*: the paper's number lies in the interval. *Exceeded*: ours is better. *Not reached*: ours is worse, but a
  difference has the sign that the paper claims.
- *Sign confirmed*: the paper prints no number, and the difference has the sign that it claims.
- *No difference shown*: the interval contains 0, or the seeds disagree about the sign.
- *Refuted*: the difference has the other sign.

A verdict holds for the schedule in the last column (epochs of stage I, then of the classifiers); the paper's stage I
has 150 epochs. Where GRFD is compared with the best of several, these numbers chose the best, and the interval does not
account for that. Rivals that a masking check flags, or that met fewer than five attacks or 100 images, are left out. A
† marks records under `transfer` and `adaptive` whose accuracies are too high, as the warning above says; so are both
accuracies of a difference. A dash means: not printed, or not measured."""

_UNJUDGED = (
    "Lines without a verdict answer another question than the paper's: on CIFAR-10 and CIFAR-100 only small networks "
    "were trained, for a few epochs, and not WRN-28-10. With 10 % of the images, a short schedule also has 10 % of the "
    "steps."
)


def section(results: Path) -> list[str]:
    """The table of all claims of which there are records; empty if there are none."""
    known = {name: found for name, load in EVIDENCE.items() if (found := load(results))}
    lines = [_line(claim, known[claim.evidence]) for claim in CLAIMS if claim.evidence in known]
    if not lines:
        return []
    header = ["claim", "section", "paper", *(f"`{protocol}`" for protocol in COMPARED), "measured on"]
    return [_HEAD, markdown(Sheet(header, lines, left=2)), _UNJUDGED, *_clusters(results)]


def _clusters(results: Path) -> list[str]:
    """The claim on the latent variables, which needs no attack."""
    silhouettes = fig2.silhouettes(results)
    if silhouettes is None:
        return []
    without, whole = silhouettes
    word = "sign confirmed" if min(whole) > max(without) else "no difference shown"
    return [
        "The abstract also says that the rectification head clusters the latent variables by class. The silhouette of "
        f"the classes is {spread(without, 2)} without the head and {spread(whole, 2)} with it, over {len(whole)} seeds "
        f"of the short schedule: **{word}** (every seed with the head above every seed without it)."
    ]


def verdict_on(interval: tuple[float, float], means: list[float], claim: Claim) -> str:
    """What an interval, in per cent or points, and the means of the seeds say of a claim."""
    low, high = interval
    if claim.kind in ("share", "cost") and claim.paper is not None:
        return "not reached" if high < claim.paper else "exceeded" if low > claim.paper else "reproduced"
    if claim.kind == "loss":
        low, high, means = -high, -low, [-mean for mean in means]
    if low <= 0 <= high or min(means) <= 0 <= max(means):
        return "no difference shown"
    if high < 0:
        return "refuted"
    if claim.paper is None:
        return "sign confirmed"
    return "not reached" if high < claim.paper else "exceeded" if low > claim.paper else "reproduced"


def interval_of(columns: Columns) -> tuple[float, float]:
    """The 95 % interval over images, in per cent or points. Means over attacks are not 0 or 1, so it is a bootstrap."""
    low, high = bootstrap(columns)
    return 100 * low, 100 * high


def _line(claim: Claim, records: VariantRecords) -> list[str]:
    sign = "" if claim.kind == "share" else "+"
    paper = "–" if claim.paper is None else f"{claim.paper:{sign}.2f}"
    wanted: tuple[Protocol, ...] = ("whitebox",) if claim.clean else COMPARED
    found = {each: numbers for each in wanted if (numbers := claim.measure(records, each))}
    cells = [_cell(claim, records, each, found[each]) if each in found else "–" for each in COMPARED]
    return [claim.words, claim.place, paper, *cells, _about(records, [each.columns for each in found.values()])]


def _cell(claim: Claim, records: VariantRecords, protocol: Protocol, found: ClaimNumbers) -> str:
    """The number with its interval and the verdict, such as 84.4 [82.4, 86.4] not reached."""
    low, high = interval_of(found.columns)
    means = [100 * float(each.mean()) for each in found.columns]
    sign = "" if claim.kind == "share" else "+"
    deviation = f" ± {np.std(means, ddof=1):.1f}" if len(means) > 1 else ""
    number = f"{np.mean(means):{sign}.1f}{deviation} [{low:{sign}.1f}, {high:{sign}.1f}]"
    early = protocol != "whitebox" and any(_left_early(folder, protocol) for folder in records.folders)
    said = f" **{verdict_on((low, high), means, claim)}**" if claim.judged else ""
    against = f" (against {found.against})" if found.against else ""
    return number + ("†" if early else "") + said + against


@lru_cache(maxsize=256)
def _left_early(folder: Path, protocol: Protocol) -> bool:
    return any(left_early(read_settings(path)) for path in folder.glob(f"records/*/{protocol}/*.npz"))


def _about(records: VariantRecords, found: list[Columns]) -> str:
    """The network, the schedule, the seeds and the images behind a line. `found`: its numbers by protocol."""
    if not found:
        return "–"
    config = config_of(records.folders[0])
    seeds = f"{len(found[0])} seeds" if len(found[0]) > 1 else "one seed"
    counts = [max(map(len, columns)) for columns in found]
    images = " to ".join(f"{count:,}" for count in dict.fromkeys((min(counts), max(counts))))
    return f"{config['model']}, {config['epochs']} + {config['classifier_epochs']} epochs, {seeds}, {images} images"
