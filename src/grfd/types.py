"""Shapes that appear in signatures everywhere, as jaxtyping annotations (checked at run time in the tests only)."""

from jaxtyping import Float, Int, UInt8
from torch import Tensor

Images = Float[Tensor, "batch channel height width"]
"""float32 in [0, 1]; a model normalises in its own first layer, so that ε is always in pixels."""

Features = Float[Tensor, "batch channel height width"]
"""x_u in [0, 1] or x_r in [−1, 1]: shaped like images."""

Labels = Int[Tensor, "batch"]
Logits = Float[Tensor, "batch classes"]
Latents = Float[Tensor, "batch latent"]
PerExample = Float[Tensor, "batch"]
"""One value an example; the mean is taken once, in the objective."""

StoredImages = UInt8[Tensor, "batch channel height width"] | Float[Tensor, "batch channel height width"]
"""Images as they are stored: bytes 0…255, or float32 in [0, 1]."""
