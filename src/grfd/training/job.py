"""What training, defenses and the method are given together: a run folder, its images and its target model."""

from dataclasses import dataclass

from grfd.data.record import Data
from grfd.models import Architecture
from grfd.runs import Run


@dataclass(frozen=True)
class Job:
    """One run as it is worked on."""

    run: Run
    data: Data
    """The data set that `run.config` names, or the caller's own."""
    architecture: Architecture
    """Makes the target model, without weights of any training."""
