"""Every claim of the paper's abstract and of its sections 4.2 to 4.6, and what the committed records say of it."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from grfd.evaluation.intervals import bootstrap
from grfd.evaluation.protocols import COMPARED, Protocol
from grfd.evaluation.records import read_settings
from grfd.evaluation.spread import spread
from grfd.evaluation.stored import read_checks
from grfd.experiments import fig2
from grfd.experiments.claims.listed import CLAIMS, EVIDENCE, Claim
from grfd.experiments.claims.measure import ClaimNumbers
from grfd.experiments.records import config_of, left_early
from grfd.experiments.variant_records import VariantRecords
from grfd.report.sheets import Sheet, markdown

_HEAD = """## The paper's claims, and what was found

Each line is one claim, with the number that the paper prints for it. The paper does not say what its attacker knows, so
each claim has a verdict under each protocol. A number with a sign is a difference in points, image by image; in
brackets is the 95 % interval over images. No defense is the standard model, and under `transfer` the 2nd standard.

- *Reproduced*: the paper's number is in the interval or, where the paper prints none, the interval is above 0.
- *Exceeded*: ours is higher. *Not reached*: ours is lower, or no difference is shown.
- *Refuted*: the difference has the other sign, and its interval excludes 0.

Where the other model is the best of several, these numbers chose it, and its interval does not account for the choice.
A verdict holds for the schedule in the last column; the paper's has 150 epochs of stage I. A † marks records whose
numbers are too high, as the warning above says. A dash means: not printed, or not measured."""

_SMALL = (
    "Claims on CIFAR-10 and CIFAR-100 were measured on small networks only, after short trainings. The paper's "
    "network, WRN-28-10, was not run, so these lines have no verdict."
)


def section(results: Path) -> list[str]:
    """The table of all claims of which there are records; empty if there are none."""
    known = {name: found for name, load in EVIDENCE.items() if (found := load(results))}
    lines = [_line(claim, known[claim.evidence]) for claim in CLAIMS if claim.evidence in known]
    if not lines:
        return []
    header = ["claim", "section", "paper", *(f"`{protocol}`" for protocol in COMPARED), "measured on"]
    return [_HEAD, markdown(Sheet(header, lines, left=2)), _SMALL, *_clusters(results)]


def _clusters(results: Path) -> list[str]:
    """The claim on the latent variables, which needs no attack."""
    silhouettes = fig2.silhouettes(results)
    if silhouettes is None:
        return []
    without, whole = silhouettes
    word = "reproduced" if min(whole) > max(without) else "not reached"
    return [
        "The abstract also says that the rectification head clusters the latent variables by class. The silhouette of "
        f"the classes is {spread(without, 2)} without the head and {spread(whole, 2)} with it "
        f"({len(whole)} seeds): **{word}**."
    ]


def verdict_on(interval: tuple[float, float], claim: Claim) -> str:
    """What an interval, in per cent or points, says of a claim."""
    low, high = interval
    if claim.difference and high < 0 and (claim.paper is None or claim.paper > 0):
        return "refuted"
    if claim.paper is None:
        return "reproduced" if low > 0 else "not reached"
    return "not reached" if high < claim.paper else "exceeded" if low > claim.paper else "reproduced"


def interval_of(found: ClaimNumbers) -> tuple[float, float]:
    """The 95 % interval over images, in per cent or points. Means over attacks are not 0 or 1, so it is a bootstrap."""
    low, high = bootstrap(found.columns)
    return 100 * low, 100 * high


def _line(claim: Claim, records: VariantRecords) -> list[str]:
    paper = "–" if claim.paper is None else f"{claim.paper:+.2f}" if claim.difference else f"{claim.paper:.2f}"
    return [
        claim.words,
        claim.place,
        paper,
        *(_cell(claim, records, each) for each in COMPARED),
        _about(claim, records),
    ]


def _cell(claim: Claim, records: VariantRecords, protocol: Protocol) -> str:
    """The number with its interval and the verdict, such as 84.3 [82, 86] not reached."""
    found = claim.measure(records, protocol)
    if found is None:
        return "–"
    flagged = found.rival and _is_flagged(records, found.rival)
    note = f" (less {found.note}{', which the masking checks flag' if flagged else ''})" if found.note else ""
    low, high = interval_of(found)
    mean = 100 * float(np.mean([each.mean() for each in found.columns]))
    sign = "+" if claim.difference else ""
    number = f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"
    early = protocol != "whitebox" and any(_left_early(folder, protocol) for folder in records.folders)
    said = f" **{verdict_on((low, high), claim)}**" if claim.judged else ""
    return number + ("†" if early else "") + said + note


def _is_flagged(records: VariantRecords, model: str) -> bool:
    return any(check.flagged for folder in records.folders for check in read_checks(folder) if check.model == model)


@lru_cache(maxsize=256)
def _left_early(folder: Path, protocol: Protocol) -> bool:
    return any(left_early(read_settings(path)) for path in folder.glob(f"records/*/{protocol}/*.npz"))


def _about(claim: Claim, records: VariantRecords) -> str:
    """The schedule, the seeds and the images behind a line."""
    config = config_of(records.folders[0])
    seeds = f"{len(records.folders)} seeds" if len(records.folders) > 1 else "one seed"
    found = [each for protocol in COMPARED if (each := claim.measure(records, protocol))]
    counts = sorted({len(each.columns[0]) for each in found}, reverse=True)
    images = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[-1], counts[0]))) if counts else "no"
    return f"{config['epochs']} epochs of stage I, {seeds}, {images} images"
