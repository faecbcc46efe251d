"""Tensor shapes in the signatures of all packages, as jaxtyping annotations. Only the tests check them at run time."""

from jaxtyping import Float, Int, UInt8
from torch import Tensor

Images = Float[Tensor, "batch channel height width"]
"""float32 in [0, 1]. A model normalises in its own first layer, so ε is always in pixels."""

Features = Float[Tensor, "batch channel height width"]
"""x_u in [0, 1] or x_r in [−1, 1], with the shape of images."""

Labels = Int[Tensor, "batch"]
Logits = Float[Tensor, "batch classes"]
Latents = Float[Tensor, "batch latent"]
PerExample = Float[Tensor, "batch"]
"""One value for each example. The mean is taken once, in the objective."""

StoredImages = UInt8[Tensor, "batch channel height width"] | Float[Tensor, "batch channel height width"]
"""Images as they are stored: bytes 0…255, or float32 in [0, 1]."""
