"""HopSkipJump and SimBA beside Foolbox 3.3.4 and ART 1.20.1, at the queries that those spend, on a committed LeNet5."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import hopskipjump, simba
from grfd.data import Data
from grfd.data.record import as_images
from grfd.models import LeNet5
from grfd.runs import load_weights

WEIGHTS = Path(__file__).parents[2] / "results/mnist-lenet5/standard.safetensors"
pytestmark = pytest.mark.filterwarnings("ignore")  # of the other libraries
ALLOWED = 1.02
"""Our median distance may be at most so much longer than theirs."""


class Counted(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.count = 0

    def forward(self, images: Tensor) -> Tensor:
        self.count += len(images)
        return self.network(images.float())


class Probabilities(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).softmax(1)


@pytest.fixture(scope="module")
def attacked(mnist: Data) -> tuple[Counted, Tensor, Tensor]:
    """(LeNet5, the first 200 test images that it classifies correctly, labels)."""
    net = LeNet5().eval()
    load_weights(net, WEIGHTS)
    images, labels = as_images(mnist.test.images[:250]), mnist.test.labels[:250]
    right = (net(images).argmax(1) == labels).nonzero().squeeze(1)[:200]
    return Counted(net).eval(), images[right], labels[right]


def classifier(net: nn.Module) -> Any:
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0.0, 1.0), device_type="cpu")


def by_foolbox(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    import foolbox

    attack = foolbox.attacks.HopSkipJumpAttack(steps=10, initial_gradient_eval_steps=100)
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    # its own search for a start fails on some images, so each begins at an image of another class
    others = torch.stack([images[(labels != label).nonzero()[0, 0]] for label in labels])
    return attack(model, images, labels, epsilons=None, starting_points=others)[1]


def by_art(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    from art.attacks.evasion import HopSkipJump

    np.random.seed(0)
    attack = HopSkipJump(classifier(net), norm=2, max_iter=10, init_eval=100, verbose=False)
    return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))


@pytest.mark.oracle
@pytest.mark.parametrize(("theirs", "images_used"), [(by_foolbox, 200), (by_art, 50)])
def test_hopskipjump_comes_as_near(theirs: Any, images_used: int, attacked: tuple[Counted, Tensor, Tensor]) -> None:
    net, images, labels = attacked[0], attacked[1][:images_used], attacked[2][:images_used]
    torch.manual_seed(0)
    net.count = 0
    with torch.no_grad():
        other = theirs(net, images, labels)
    queries = net.count // images_used
    ours = hopskipjump(net, images, labels, eps=torch.inf, n_queries=queries, norm="l2",
                       generator=torch.Generator().manual_seed(0))  # fmt: skip
    medians = []
    for made in (ours, other):
        distance = torch.linalg.vector_norm((made - images).flatten(1), dim=1)
        with torch.no_grad():
            fooled = net(made).argmax(1) != labels
        medians.append(torch.where(fooled, distance, torch.inf).median().item())
    print(f"{queries} queries: ours {medians[0]:.4f}, theirs {medians[1]:.4f}")
    assert medians[0] <= ALLOWED * medians[1]


@pytest.mark.oracle
def test_simba_leaves_no_more(attacked: tuple[Counted, Tensor, Tensor]) -> None:
    from art.attacks.evasion import SimBA

    net, images, labels = attacked
    net.count = 0
    np.random.seed(0)
    attack = SimBA(
        classifier(Probabilities(net)),
        attack="px",
        max_iter=300,
        order="random",
        epsilon=0.2,
        batch_size=1,
        verbose=False,
    )
    other = torch.from_numpy(attack.generate(images.numpy(), np.eye(10)[labels.numpy()]))
    longest = float(torch.linalg.vector_norm((other - images).flatten(1), dim=1).max())
    ours = simba(net, images, labels, eps=longest, n_queries=601, step=0.2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        left = [int((net(made).argmax(1) == labels).sum()) for made in (ours, other)]
    print(f"300 directions of 0.2: ours leaves {left[0]}, ART {left[1]} of 200; ART's longest change is {longest:.2f}")
    assert left[0] <= left[1] + 6  # random orders: three standard deviations of a difference
