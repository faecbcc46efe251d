"""One step of stage I at the paper's size: WRN-28-10, latent 2024, in float32 and under bfloat16."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from grfd.api.job import build_architecture
from grfd.config import PRESETS
from grfd.data import from_tensors
from grfd.method.objective import StageOne
from grfd.method.stages import build_generator
from grfd.training.loop import Terms


def step(objective: StageOne, images: Tensor, labels: Tensor, *, bfloat16: bool) -> tuple[Terms, Tensor]:
    """Terms, and the gradient of all parameters as one vector."""
    torch.manual_seed(1)
    objective.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        terms = objective(images, labels, 0.0)
    terms["loss"].mean().backward()
    return terms, torch.cat([each.grad.flatten().double() for each in objective.parameters() if each.grad is not None])


def test_bfloat16_agrees_with_float32() -> None:
    config = PRESETS["cifar10-wrn28-10"]
    stream = torch.Generator().manual_seed(0)
    pixels, labels = torch.randint(256, (10, 3, 32, 32), generator=stream, dtype=torch.uint8), torch.arange(10)
    data = from_tensors(pixels, labels, pixels, labels)
    torch.manual_seed(0)
    generator = build_generator(config, data)
    objective = StageOne(generator, build_architecture(config, data)(), config).to(memory_format=torch.channels_last)
    assert sum(each.numel() for each in objective.rsm.parameters()) == pytest.approx(36.5e6, rel=0.01)
    images = (pixels[:2].float() / 255).contiguous(memory_format=torch.channels_last)

    exact, exact_gradient = step(objective, images, labels[:2], bfloat16=False)
    rough, rough_gradient = step(objective, images, labels[:2], bfloat16=True)
    for name, values in exact.items():
        torch.testing.assert_close(rough[name].float(), values, rtol=0.02, atol=0.05)
    assert F.cosine_similarity(rough_gradient, exact_gradient, dim=0) > 0.99
    assert rough_gradient.norm().item() == pytest.approx(exact_gradient.norm().item(), rel=0.05)
