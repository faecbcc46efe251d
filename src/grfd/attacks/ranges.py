"""The valid ranges of the numbers that attacks take. They are checked before anything is attacked."""

import math
from numbers import Integral, Real
from typing import NamedTuple

from grfd.errors import UserError


class Range(NamedTuple):
    """Finite numbers from `low` to `high`: without `low` itself if `open`, and only whole numbers if `whole`."""

    low: float
    high: float = math.inf
    open: bool = False
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a finite number"
        lower = f"{'above' if self.open else 'of at least'} {self.low:g}"
        return f"{kind} {lower}" + ("" if self.high == math.inf else f" and at most {self.high:g}")


COUNT = Range(1, whole=True)
COUNT_OR_NONE = Range(0, whole=True)
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, open=True)
AT_LEAST_1 = Range(1)
SHARE = Range(0, 1)
POSITIVE_SHARE = Range(0, 1, open=True)


def in_range(**settings: tuple[object, Range]) -> None:
    """Raises UserError, in one line, for the first setting whose value is outside its range."""
    for name, (value, allowed) in settings.items():
        if not _inside(value, allowed):
            raise UserError(f"{name}={value!r}; expected {allowed}")


def is_infinite(eps: object) -> bool:
    """Whether an ε is ∞, which searches for the smallest perturbation accept."""
    return isinstance(eps, Real) and eps == math.inf


def _inside(value: object, allowed: Range) -> bool:
    if isinstance(value, bool) or not isinstance(value, Integral if allowed.whole else Real):
        return False
    try:
        number = float(value)
    except OverflowError:
        return False
    above = number > allowed.low if allowed.open else number >= allowed.low
    return math.isfinite(number) and above and number <= allowed.high
