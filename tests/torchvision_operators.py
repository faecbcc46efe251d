"""Makes torchvision importable beside a build of PyTorch that its wheel does not fit, so that timm can be tested.

timm imports torchvision, whose compiled operators do not load there. They must be declared, and are never called. `make
test` puts torchvision into a folder of its own, .venv/torchvision, where no other package finds it: diffusers and
transformers would import it, and fail.
"""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(sys.prefix) / "torchvision"
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
HAS_TIMM = importlib.util.find_spec("timm") is not None and (FOLDER / "torchvision").is_dir()
NEEDS_TIMM = pytest.mark.skipif(not HAS_TIMM, reason="needs timm, and torchvision in .venv/torchvision (make test)")
_DECLARED: list[torch.library.Library] = []


def declare() -> None:
    """Declares the operators, and imports torchvision and timm."""
    if _DECLARED:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + SIGNATURE)
    _DECLARED.append(library)
    sys.path.append(str(FOLDER))
    try:
        import timm  # noqa: F401
    finally:
        sys.path.remove(str(FOLDER))
