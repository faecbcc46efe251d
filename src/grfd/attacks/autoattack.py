"""`aa`: the gradient-based half of AutoAttack (Croce & Hein 2020, arXiv 2003.01690)."""

from functools import partial

import torch

from grfd.attacks.apgd import apgd_ce, apgd_t
from grfd.attacks.threat import Model, attacking, keep_better, mean_lead, remaining
from grfd.types import Images, Labels


def aa(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 100,
    targets: int = 9,
    samples: int = 1,
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """APGD-CE, then APGD-T on what survives it: AutoAttack's first two parts. FAB-T and Square are NOT in it yet.

    So a robust accuracy under `aa` is an upper bound of that under the official "standard" AutoAttack (run `square`
    as well for its fourth part). Steps and targets are the official 100 and 9; TorchAttacks 3.5.1, which the paper
    used, builds its APGD with 10. With `active_set=False` both parts attack every example, and the image that the
    model gets more wrong is returned. Keywords and errors as in `apgd_ce` and `apgd_t`.
    """
    parts = (apgd_ce, partial(apgd_t, targets=targets))
    with attacking(model, images, labels, eps, bounds) as batch:
        result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels, samples)
        for part in parts:
            rows = remaining(best, active_set)
            found = part(
                model,
                batch.images[rows],
                batch.labels[rows],
                eps=eps,
                steps=steps,
                samples=samples,
                active_set=active_set,
                bounds=bounds,
                generator=generator,
            )
            keep_better(result, best, rows, found, mean_lead(model, found, batch.labels[rows], samples))
        return result
