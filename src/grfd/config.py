"""Every setting of a run, typed and explained once: commands, run folders and the API all read this record."""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

from grfd import schema
from grfd.errors import UserError
from grfd.schema import Count, Deviation, Examples, FilePath, Rate, Seed, Size, Text, Thirds, Weight


@dataclass(frozen=True)
class Config(schema.Settings):
    """All settings of a run. Losses and symbols are those of Li et al. 2025; ε here is eq. 6's weight, not a budget."""

    LATER: ClassVar[frozenset[str]] = frozenset({"autoencoder", "augmentation", "passes", "classifier_learning_rate"})

    data: Text = "mnist"
    """Data set: mnist, cifar10, cifar100, or folder (one folder of images a class)."""
    data_dir: FilePath | None = None
    """Where the data set lies. MNIST comes with the package, CIFAR is downloaded where none is given."""
    train_examples: Examples | None = None
    """Train on the first so many images only (all where it is not given)."""
    model: Text = "lenet5"
    """Target model and RSM: a registered name, timm/NAME, or package.module:factory of your own."""
    autoencoder: Literal["auto", "lenet", "residual"] = "auto"
    """The LVCVAE's network: LeNet5's convolutions, or CD-VAE's residual ones; auto takes the latter for colour."""
    latent: Size = 256
    """Latent dimensions d of the LVCVAE."""

    epochs: Count = 150
    """Epochs of stage I (LVCVAE and RSM together)."""
    classifier_epochs: Count = 20
    """Epochs of stage III (target model), and of the undefended standard models beside it."""
    augmentation: Literal["none", "crop_flip"] = "none"
    """Of every training batch: moved by up to four pixels and mirrored, the standard for CIFAR."""
    batch: Count = 256
    """Images a training step, over all processes."""
    passes: Count = 1
    """Passes in which a process takes its part of a batch; gradients add up, so that a large batch fits a small card.
    Batch norm sees each pass by itself."""
    learning_rate: Rate = 1e-3
    """AdamW's in stage I, falling to 0 along a cosine."""
    classifier_learning_rate: Rate = 1e-3
    """AdamW's for the target model and the standard models, falling to 0 along a cosine."""
    weight_decay: Weight = 1e-2
    """AdamW's."""
    seed: Seed = 0
    """Of weights, data order and noise."""

    alpha: Thirds = (10.0, 5.0, 1.0)
    """α, weight of the reconstruction L_rc, in the first, second and last third of stage I."""
    beta: Weight = 0.2
    """β, weight of the divergence L_kl."""
    epsilon: Weight = 0.6
    """ε of eq. 6, weight of the rectification L_rf."""
    gamma: Weight = 0.4
    """γ, weight of the classification L_cl of x_r."""
    delta: Weight = 0.2
    """δ, weight of the robustness L_rb of x_r."""

    reconstruction: Literal["mean", "sum"] = "mean"
    """MSE over pixels: their mean or their sum."""
    kl: Literal["per_dimension", "sum"] = "per_dimension"
    """L_kl divided by channels · d as in CD-VAE, or the literal sum of eq. 2, under which the posterior collapses."""
    sigma: Deviation = 1.0
    """σ of v in eq. 5, in pixels of [0, 1]; CURE's h where v is sign_gradient."""
    perturbation: Literal["gaussian", "sign_gradient"] = "gaussian"
    """v of eq. 5: N(0, σ²I), or CURE's direction."""
    similarity: Literal["cosine", "l2"] = "cosine"
    """L_rb: eq. 5's cosine, or eq. 4's squared distance."""
    gradient_of: Literal["margin", "cross_entropy"] = "margin"
    """What eq. 5 differentiates. The cosines are equal, but the cross-entropy's gradient underflows in float32."""
    rsm_gradient: Literal["joint", "detached"] = "joint"
    """Whether the RSM's losses also train the LVCVAE (algorithm 1, line 12)."""
    game: Literal["cooperative", "sign_flipped"] = "cooperative"
    """As algorithm 1 writes it, or with the LVCVAE climbing the RSM's losses."""
    batch_norm: Literal["updated", "frozen"] = "updated"
    """Running statistics of the RSM's batch norm: updated once a step, or frozen."""
    latent_at_inference: Literal["mean", "sampled"] = "mean"
    """z of the deployed defense: μ, or drawn from N(μ, σ²)."""
    robust_dataset: Literal["once", "every_epoch"] = "once"
    """R_D of stage II: built once, or drawn anew each epoch."""
    target_start: Literal["fresh", "rsm"] = "fresh"
    """Weights of the target model at the start of stage III."""

    device: Literal["auto", "cpu"] = "auto"
    """auto takes the accelerator that is there."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of training; evaluation is always float32."""
    channels_last: bool = False
    """Memory format of images and networks: faster for wide networks, not for LeNet5."""

    def __post_init__(self) -> None:
        # not type(self): a command adds fields of its own, which are not settings of the run
        schema.enforce(self, Config)

    def conflict(self) -> str | None:
        if self.passes > self.batch:
            return f"passes must be at most batch, {self.batch}, got {self.passes}"
        return None


_WIDE: dict[str, Any] = {
    "model": "wrn-28-10",
    "latent": 2024,
    "epochs": 150,
    "classifier_epochs": 150,
    "augmentation": "crop_flip",
    "channels_last": True,
}
"""The paper's for CIFAR (section 4.1); where it says nothing, the standard of the field."""

_SMALL: dict[str, Any] = {
    "model": "wrn-10-1-dropout-0",
    "latent": 256,
    "epochs": 2,
    "classifier_epochs": 6,
    "classifier_learning_rate": 4e-3,
    "batch": 128,
    "augmentation": "crop_flip",
    "channels_last": True,
}
"""What two cores do in an hour, all attacks included (docs/measured.md says how it was chosen)."""

PRESETS: dict[str, Config] = {
    # the paper's ε, γ, δ, β and latent are the defaults; at a higher learning rate L_rb relapses (docs/measured.md)
    "mnist-lenet5": Config(epochs=150, classifier_epochs=20, learning_rate=1.5e-4),
    "quick": Config(epochs=3, classifier_epochs=2),
    # for grfd-robust, which kept most with the larger of the two LVCVAEs
    "mnist-robust": Config(autoencoder="residual", epochs=9, classifier_epochs=20),
    "cifar10-wrn28-10": Config(data="cifar10", **_WIDE),
    "cifar100-wrn28-10": Config(data="cifar100", **_WIDE),
    "cifar10-small": Config(data="cifar10", **_SMALL),
    # a hundred classes ask for more: after six epochs the standard model is right on a fifth of the images
    "cifar100-small": Config(data="cifar100", **_SMALL | {"epochs": 4, "classifier_epochs": 20}),
}


def preset(name: str, /, **changes: Any) -> Config:
    """A preset with some fields changed. Raises `UserError` for an unknown preset or field, or an impossible value."""
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(f"unknown preset {schema.shown(name)}: expected one of {', '.join(PRESETS)}")
    return changed(PRESETS[name], **changes)


def changed(config: Config, /, **changes: Any) -> Config:
    """A configuration with some fields changed. Raises `UserError` for an unknown field or an impossible value."""
    known = {field.name for field in fields(Config)}
    for field in changes:
        if field not in known:
            raise UserError(f"unknown field {field!r}: expected one of {', '.join(sorted(known))}")
    return replace(config, **changes)


def checked_config(config: Config) -> Config:
    """The same record. Raises `UserError` for what is no configuration, or for a value that no run could use."""
    if not isinstance(config, Config):
        raise UserError(f"expected a Config, got {schema.shown(config)}")
    return schema.checked_settings(config)
