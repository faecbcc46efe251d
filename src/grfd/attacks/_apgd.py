"""Auto-PGD (Croce & Hein 2020, arXiv 2003.01690, algorithm 1): PGD that halves its own step size."""

from collections.abc import Callable
from functools import partial

import torch

from grfd.attacks._apgd_l1 import run_in_l1
from grfd.attacks._apgd_run import Course, GradientAt, run_with_momentum
from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import Climb, likeliest_wrong, mean_lead, repeat, slope, total
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.losses import climbed, targeted_dlr
from grfd.attacks.ranges import COUNT, in_range
from grfd.attacks.threat import Batch, Norm, finished, rows_of
from grfd.errors import UserError
from grfd.types import Images, Labels, Logits, PerExample


def apgd_ce(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 100,
    restarts: int = 1,
    samples: int = 1,
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """Auto-PGD on the cross-entropy, from a random point on the ball's surface.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε in pixels of [0, 1], or with `norm` "l2" a
    Euclidean length. With `norm` "l1", ε is the sum of the absolute changes, steps are sparse, and the first 60 per
    cent of the steps go through balls of the radii 3ε and 2ε (Croce & Hein 2021, arXiv 2103.01208).

    - `samples`: gradients that are summed at every step (EOT).
    - `restarts`: each works on the examples that do not fool the model yet.
    - `active_set`: an example is finished with the first iterate that the model gets wrong. Pass False for a random
      model (see `pgd`): then all steps are run.
    - `keep`: what is returned where all steps are run. "best" is the iterate that the model gets most wrong. "last" is
      the last iterate that the model gets wrong, as in the original.

    Loss values are compared through m (`losses.log_odds`). The cross-entropy increases with m, so the decisions are the
    same, and m does not saturate. With several samples, the mean of m replaces the mean of the cross-entropy.
    Raises UserError for a wrong shape, range, ε or count.
    """
    _check(steps, samples, keep, restarts=restarts)
    course = Course(steps, keep, active_set, generator)
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        return _untargeted(model, batch, "cross_entropy", course, restarts, samples)


def apgd_dlr(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 100,
    restarts: int = 1,
    samples: int = 1,
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """Auto-PGD on the untargeted DLR (eq. 6). With two classes, where the original fails, it uses the margin.

    Keywords, and what is raised, as in `apgd_ce`.
    """
    _check(steps, samples, keep, restarts=restarts)
    course = Course(steps, keep, active_set, generator)
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        return _untargeted(model, batch, "dlr", course, restarts, samples)


def apgd_t(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 100,
    targets: int = 9,
    samples: int = 1,
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """Auto-PGD on the targeted DLR, towards each of the `targets` likeliest wrong classes in turn.

    If there are fewer wrong classes, it goes towards all of them. Each run works on the examples that no earlier run
    turned into a success. Other keywords, and what is raised, as in `apgd_ce`.
    """
    _check(steps, samples, keep, targets=targets)
    course = Course(steps, keep, active_set, generator)
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        gradient_at = partial(_gradient_at, model, _towards, samples)
        result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels, samples)
        if len(images) == 0:
            return finished(result, batch)
        for target in likeliest_wrong(model, batch, targets):
            _improve(result, best, gradient_at, batch, target, course)
        return finished(result, batch)


def _untargeted(model: CheckedModel, batch: Batch, loss: str, course: Course, restarts: int, samples: int) -> Images:
    gradient_at = partial(_gradient_at, model, lambda targets: partial(climbed, loss), samples)
    result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels, samples)
    for _ in range(restarts):
        _improve(result, best, gradient_at, batch, batch.labels, course)
    return finished(result, batch)


def _improve(
    result: Images, best: PerExample, gradient_at: GradientAt, batch: Batch, targets: Labels, course: Course
) -> None:
    """One run. Where it finds something better, `result` (images) and `best` (their leads) are changed in place."""
    rows = remaining(best, course.active_set or course.keep == "last")
    if len(rows) == 0:
        return
    one_run = run_in_l1 if batch.norm == "l1" else run_with_momentum
    kept, leads = one_run(gradient_at, rows_of(batch, rows), targets[rows], course)
    keep_better(result, best, rows, kept, leads)


def _check(steps: int, samples: int, keep: str, **runs: int) -> None:
    in_range(steps=(steps, COUNT), samples=(samples, COUNT), **{name: (count, COUNT) for name, count in runs.items()})
    if keep not in ("best", "last"):
        raise UserError(f"{keep=}; expected 'best' or 'last'")


def _towards(targets: Labels) -> Climb:
    def climb(logits: Logits, labels: Labels) -> tuple[PerExample, PerExample]:
        values = targeted_dlr(logits, labels, targets.repeat(len(labels) // len(targets)))
        return values, torch.zeros_like(values)

    return climb


def _gradient_at(
    model: CheckedModel,
    climb: Callable[[Labels], Climb],
    samples: int,
    iterates: Images,
    labels: Labels,
    targets: Labels,
) -> tuple[Images, PerExample, PerExample]:
    slopes = slope(model, repeat(iterates, samples), labels, climb(targets))
    return total(slopes.gradient, slopes.log_scale)[0], slopes.values.mean(0), slopes.lead.mean(0)
