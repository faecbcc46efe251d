"""Plain training of a classifier: the standard model on x, and the objective that stage III has on x_r."""

from torch import nn

from grfd.data.record import Data, Split
from grfd.models import Architecture
from grfd.runs import Run, load_weights, write_tensors
from grfd.seeds import seeded
from grfd.training.loop import Inputs, Terms, fit
from grfd.types import Features, Labels


class Classification(nn.Module):
    """Cross-entropy of a classifier, one value an example."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Features, labels: Labels, progress: float) -> Terms:
        return {"loss": nn.functional.cross_entropy(self.classifier(images), labels, reduction="none")}


def training_split(run: Run, data: Data) -> Split:
    """The training images that the configuration asks for."""
    return data.train if run.config.train_examples is None else data.train.take(run.config.train_examples)


def fit_classifier(run: Run, name: str, objective: nn.Module, inputs: Inputs) -> None:
    """Trains with the configuration's schedule for classifiers, the same with a defense and without."""
    config = run.config
    fit(run, name, objective, inputs, epochs=config.classifier_epochs, learning_rate=config.classifier_learning_rate)


def train_classifier(run: Run, name: str, data: Data, architecture: Architecture) -> None:
    """An undefended model: the target's architecture and recipe, on x. Writes `name`.safetensors."""
    if run.has(f"{name}.safetensors"):
        return
    with seeded(run.config.seed, name, "weights"):
        model = architecture()
    split = training_split(run, data)
    objective = Classification(model)
    fit_classifier(run, name, objective, lambda epoch: (split.images, split.labels))
    write_tensors(run.file(f"{name}.safetensors"), model.state_dict())


def load_classifier(run: Run, name: str, architecture: Architecture) -> nn.Module:
    """A trained classifier of the run, in eval mode. Raises `UserError` where it is not trained yet."""
    model = architecture()
    load_weights(model, run.file(f"{name}.safetensors"))
    return model.eval()
