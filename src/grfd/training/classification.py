"""Training of classifiers, with the cross-entropy (standard models, stage III) or with the objective of a defense."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from grfd import runs
from grfd.config import Config
from grfd.data.record import Data, Split
from grfd.models import Architecture
from grfd.runs import load_weights, write_tensors
from grfd.seeds import seeded
from grfd.tensors import check_weights
from grfd.training.averaging import Averaged
from grfd.training.job import Job
from grfd.training.loop import Optimisation, Terms, fit_objective
from grfd.types import Features, Labels


class Classification(nn.Module):
    """The cross-entropy of a classifier, one value per example."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Features, labels: Labels, progress: float) -> Terms:
        return {"loss": nn.functional.cross_entropy(self.classifier(images), labels, reduction="none")}


def training_split(job: Job) -> Split:
    """The training images that the run's configuration asks for."""
    return split_for(job.run.config, job.data)


def split_for(config: Config, data: Data) -> Split:
    """The training images that a configuration asks for."""
    return data.train if config.train_examples is None else data.train.take(config.train_examples)


def images_for(config: Config, data: Data) -> runs.Fingerprints:
    """The fingerprints of the training images that a configuration asks for, and of the test split."""
    splits = {"train": split_for(config, data), "test": data.test}
    return {name: runs.images_of(split.images, split.labels) for name, split in splits.items()}


def classifier_optimisation(config: Config) -> Optimisation:
    """How the target model and the standard models are trained."""
    return Optimisation(config.classifier_epochs, config.classifier_learning_rate)


def train_under(
    job: Job,
    name: str,
    objective: Callable[[nn.Module], nn.Module],
    optimisation: Optimisation,
    *,
    start: Architecture | None = None,
    averaging: float = 0.0,
) -> None:
    """Trains a classifier on x with an objective, and writes `name`.safetensors.

    `start`: returns the classifier as it is before training; the job's architecture where it is None.
    `averaging`: the decay per step of a moving average of the weights, which is then written; with 0, the last weights.
    """
    run = job.run
    with seeded(run.config.seed, name, "weights"):
        model = (start or job.architecture)()
    if run.has(f"{name}.safetensors"):
        check_weights(model, run.file(f"{name}.safetensors"))
        return
    split = training_split(job)
    trained = objective(model)
    averaged = Averaged(trained, model, averaging) if averaging else None
    fit_objective(run, name, averaged or trained, lambda epoch: (split.images, split.labels), optimisation)
    if averaged is not None:
        averaged.follow()
    write_tensors(run.file(f"{name}.safetensors"), (averaged.average if averaged else model).state_dict())


def train_classifier(job: Job, name: str) -> None:
    """Trains an undefended model, the target's architecture on x, and writes `name`.safetensors."""
    train_under(job, name, Classification, classifier_optimisation(job.run.config))


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Puts a model into eval mode, as attacks need it while they craft training examples. The mode is restored."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def load_classifier(job: Job, name: str) -> nn.Module:
    """A trained classifier of the run, in eval mode. Raises `UserError` where it has not been trained yet."""
    model = job.architecture()
    load_weights(model, job.run.file(f"{name}.safetensors"))
    return model.eval()
