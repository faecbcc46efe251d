"""AutoAttack (Croce & Hein 2020, arXiv 2003.01690): attacks without parameters, one after the other on what stands."""

from collections.abc import Callable
from typing import Any

import torch

from grfd.attacks.apgd import apgd_ce, apgd_dlr, apgd_t
from grfd.attacks.fab import fab, fab_t
from grfd.attacks.square import square
from grfd.attacks.threat import Model, Norm, attacking, keep_better, mean_lead, remaining
from grfd.errors import UserError
from grfd.types import Images, Labels

Part = tuple[Callable[..., Images], dict[str, Any]]

EOT_SAMPLES = 20

VERSIONS = ("standard", "plus", "rand")


def parts_of(version: str, steps: int, targets: int, n_queries: int) -> tuple[Part, ...]:
    """The parts of each version, in the original's order."""
    plain, targeted = {"steps": steps}, {"steps": steps, "targets": targets}
    queries = {"n_queries": n_queries, "rescale": False}
    random = {"steps": steps, "samples": EOT_SAMPLES, "active_set": False}
    versions: dict[str, tuple[Part, ...]] = {
        "standard": ((apgd_ce, plain), (apgd_t, targeted), (fab_t, targeted), (square, queries)),
        "plus": (
            (apgd_ce, plain | {"restarts": 5}),
            (apgd_dlr, plain | {"restarts": 5}),
            (fab, plain | {"restarts": 5}),
            (square, queries),
            (apgd_t, targeted),
            (fab_t, targeted),
        ),
        "rand": ((apgd_ce, random), (apgd_dlr, random)),
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
    """The official AutoAttack: "standard", "plus" (more restarts and losses) or "rand" (20 gradients a step, EOT).

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε in pixels of [0, 1], or with `norm` "l2" a
    Euclidean length. Each part works on what no earlier one fooled; with `active_set=False` every part attacks every
    example, and the image that the model gets most wrong is returned. Fewer classes than targets, also two, work.
    "rand" is for random models: no example leaves it at a lucky first success, and the judge asks the model anew.
    The defaults are the original's: 100 steps of APGD and FAB, 9 targets, 5,000 queries of Square.
    Raises UserError for a wrong shape, range, ε or version.
    """
    if version not in VERSIONS:
        raise UserError(f"{version=}; expected one of {', '.join(VERSIONS)}")
    samples = EOT_SAMPLES if version == "rand" else 1
    parts = parts_of(version, steps, targets, n_queries)
    return _chain(parts, model, images, labels, eps, {"norm": norm}, samples, active_set, bounds, generator)


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
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """AutoAttack as TorchAttacks 3.5.1 runs it, so most probably the paper's: APGD and FAB of 10 steps, not 100.

    It builds them without `steps` (autoattack.py:61-88), and rescales Square's schedule to its 5,000 queries. Its fault
    of returning the *clean* image where all parts fail is not copied. Keywords and errors as in `autoattack`.
    """
    targeted = {"steps": steps, "targets": targets}
    parts: tuple[Part, ...] = (
        (apgd_ce, {"steps": steps}),
        (apgd_t, targeted),
        (fab_t, targeted),
        (square, {"n_queries": n_queries, "rescale": True}),
    )
    return _chain(parts, model, images, labels, eps, {"norm": norm}, 1, active_set, bounds, generator)


def _chain(
    parts: tuple[Part, ...],
    model: Model,
    images: Images,
    labels: Labels,
    eps: float,
    common: dict[str, Any],
    samples: int,
    active_set: bool,
    bounds: tuple[float, float],
    generator: torch.Generator | None,
) -> Images:
    """Part after part, each on the rows that remain; a part's own keywords go before the common ones."""
    with attacking(model, images, labels, eps, bounds) as batch:
        result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels, samples)
        for attack, keywords in parts:
            rows = remaining(best, active_set)
            chosen = {"active_set": active_set, "bounds": bounds, "generator": generator} | common | keywords
            found = attack(model, batch.images[rows], batch.labels[rows], eps=eps, **chosen)
            keep_better(result, best, rows, found, mean_lead(model, found, batch.labels[rows], samples))
        return result
