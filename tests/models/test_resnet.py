"""The small residual net, whose strided 1×1 convolution is written so that it survives channels-last on a CPU."""

import subprocess
import sys

import pytest
import torch

from grfd.models.resnet import ResidualBlock, SmallResNet

# in a process of its own: what it guards against ends the process (memory corrupted inside PyTorch 2.13)
TRAINED = """
import torch
from grfd.models.resnet import SmallResNet
network = SmallResNet().to(memory_format=torch.channels_last)
images = torch.rand(128, 3, 32, 32).contiguous(memory_format=torch.channels_last)
for _ in range(10):
    network(images).logsumexp(1).sum().backward()
print("trained")
"""


def test_it_trains_channels_last_on_a_cpu() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "trained\n", done.stderr


@pytest.mark.parametrize("size", [8, 9])
def test_the_stride_before_the_convolution_is_that_of_the_convolution(size: int) -> None:
    block, features = ResidualBlock(3, 8, 2).eval(), torch.rand(2, 3, size, size)
    strided = torch.nn.functional.conv2d(features, block.around.weight, stride=2)
    torch.testing.assert_close(block.around(features[..., ::2, ::2]), strided)


@pytest.mark.parametrize("size", [8, 32, 33])
def test_it_takes_any_size_from_eight(size: int) -> None:
    assert SmallResNet(3, 7, size, size)(torch.rand(2, 3, size, size)).shape == (2, 7)
    with pytest.raises(ValueError, match="at least 8×8"):
        SmallResNet(height=7)
