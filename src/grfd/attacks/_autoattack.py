"""AutoAttack (Croce & Hein 2020, arXiv 2003.01690, section 5): an ensemble of attacks without free parameters."""

from collections.abc import Callable
from typing import Any

import torch

from grfd.attacks._apgd import apgd_ce, apgd_dlr, apgd_t
from grfd.attacks._fab import fab, fab_t
from grfd.attacks._square import square
from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.gradients import mean_lead
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.ranges import COUNT, in_range
from grfd.attacks.threat import Norm, finished
from grfd.errors import UserError
from grfd.types import Images, Labels

_Part = tuple[Callable[..., Images], dict[str, Any]]

_EOT_SAMPLES = 20

_VERSIONS = ("standard", "plus", "rand", "ascent")


def _parts_of(version: str, steps: int, targets: int, n_queries: int, norm: Norm) -> tuple[_Part, ...]:
    """The parts of each version, in the original's order. In L1, "standard" starts APGD-CE five times."""
    first = {"steps": steps, "restarts": 5 if norm == "l1" else 1}
    plain, targeted = {"steps": steps}, {"steps": steps, "targets": targets}
    queries = {"n_queries": n_queries, "rescale": False}
    random = {"steps": steps, "samples": _EOT_SAMPLES, "active_set": False}
    versions: dict[str, tuple[_Part, ...]] = {
        "standard": ((apgd_ce, first), (apgd_t, targeted), (fab_t, targeted), (square, queries)),
        "plus": (
            (apgd_ce, plain | {"restarts": 5}),
            (apgd_dlr, plain | {"restarts": 5}),
            (fab, plain | {"restarts": 5}),
            (square, queries),
            (apgd_t, targeted),
            (fab_t, targeted),
        ),
        "rand": ((apgd_ce, random), (apgd_dlr, random)),
        "ascent": ((apgd_ce, plain), (apgd_t, targeted)),
    }
    return versions[version]


def autoattack(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    version: str = "standard",
    steps: int = 100,
    targets: int = 9,
    n_queries: int = 5000,
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """The official AutoAttack: "standard", "plus" (more restarts and losses) or "rand" (EOT, 20 gradients per step).

    "ascent" is our own version. It consists of the parts of "standard" that increase a loss, APGD-CE and APGD-T.
    FAB and Square are left out because they stop at the decision boundary. With `active_set=False`, it makes examples
    for another model.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε in pixels of [0, 1], or with `norm` "l2" a
    Euclidean length, or with "l1" a sum of absolute changes. Each part works on the examples that no earlier part
    turned into a success. With `active_set=False`, every part attacks every example, and the image that the model
    gets most wrong is returned. There may be fewer classes than targets, even two. "rand" is for random models: no
    example leaves at a lucky first success, and the evaluation queries the model again. The defaults are those of
    the original: 100 steps of APGD and FAB, 9 targets, and 5,000 queries of Square. In L1, the original has 5
    targets of APGD-T, and "standard" has five restarts of APGD-CE (Croce & Hein 2021, arXiv 2103.01208).
    Raises UserError for a wrong shape, range, ε or version.
    """
    in_range(steps=(steps, COUNT), targets=(targets, COUNT), n_queries=(n_queries, COUNT))
    if version not in _VERSIONS:
        raise UserError(f"{version=}; expected one of {', '.join(_VERSIONS)}")
    samples = _EOT_SAMPLES if version == "rand" else 1
    parts = _parts_of(version, steps, targets, n_queries, norm)
    common = {"norm": norm, "active_set": active_set, "bounds": bounds, "generator": generator}
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels, samples)
        for attack, keywords in parts:
            rows = remaining(best, active_set)
            adversarial = attack(model, batch.images[rows], batch.labels[rows], eps=eps, **common | keywords)
            keep_better(result, best, rows, adversarial, mean_lead(model, adversarial, batch.labels[rows], samples))
        return finished(result, batch)


def aa_torchattacks(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 10,
    targets: int = 9,
    n_queries: int = 5000,
    active_set: bool = True,
    as_returned: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """AutoAttack as TorchAttacks 3.5.1 runs it, hence most probably the paper's: APGD and FAB take 10 steps, not 100.

    TorchAttacks builds both without `steps` (autoattack.py:61-88), and rescales Square's schedule to its 5,000 queries.
    With `as_returned`, the images are those that TorchAttacks returns. The difference matters where the images are
    given to another model: APGD and FAB run all their steps, APGD returns its last success, a later part only attacks
    the examples that no earlier part turned into a success, and an image on which all parts fail is returned
    unchanged. Other keywords, and what is raised, as in `autoattack`.
    """
    in_range(steps=(steps, COUNT), targets=(targets, COUNT), n_queries=(n_queries, COUNT))
    common = {"norm": norm, "bounds": bounds, "generator": generator}
    whole = {"steps": steps, "active_set": active_set and not as_returned}
    ascent = whole | {"keep": "last" if as_returned else "best"}
    parts: tuple[_Part, ...] = (
        (apgd_ce, ascent),
        (apgd_t, ascent | {"targets": targets}),
        (fab_t, whole | {"targets": targets}),
        (square, {"n_queries": n_queries, "rescale": True}),
    )
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels)
        for attack, keywords in parts:
            rows = remaining(best, active_set or as_returned)
            adversarial = attack(model, batch.images[rows], batch.labels[rows], eps=eps, **common | keywords)
            leads = mean_lead(model, adversarial, batch.labels[rows])
            kept = leads >= 0 if as_returned else torch.ones_like(rows, dtype=torch.bool)
            keep_better(result, best, rows[kept], adversarial[kept], leads[kept])
        return finished(result, batch)
