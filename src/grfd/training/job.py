"""What the method, the trainings and the defenses work on: a run folder, its images and its target model."""

from dataclasses import dataclass

from grfd.data.record import Data
from grfd.models import Architecture
from grfd.runs import Run


@dataclass(frozen=True)
class Job:
    """A run, with what its configuration names."""

    run: Run
    data: Data
    """The data set that `run.config` names, or the caller's own."""
    architecture: Architecture
    """Returns a new target model with fresh weights."""
