"""All settings of a run, with types and help texts. Commands, run folders and the API use this record."""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

from grfd import schema
from grfd.errors import UserError
from grfd.schema import Count, Deviation, Examples, FilePath, Rate, Seed, Size, Text, Thirds, Weight


@dataclass(frozen=True)
class Config(schema.Settings):
    """All settings of a run. Losses and symbols are those of Li et al. 2025.

    ε is a weight of eq. 6 here, not the size of a perturbation.
    """

    LATER: ClassVar[frozenset[str]] = frozenset(
        {
            "autoencoder",
            "augmentation",
            "passes",
            "classifier_learning_rate",
            "resize",
            "crop",
            "skip_broken",
            "weights",
            "robust_part",
        }
    )

    data: Text = "mnist"
    """Data set: mnist, cifar10, cifar100, folder (your own images, in one folder for each class), or your own
    package.module:factory, which returns a grfd.Data or two PyTorch data sets of (image, label), train and test."""
    data_dir: FilePath | None = None
    """Folder of the data set. MNIST comes with the package. CIFAR is downloaded unless a folder is given."""
    resize: Size | None = None
    """Resize each image so that its shorter side has this length in pixels (bicubic, antialiased)."""
    crop: Size | None = None
    """Cut a square with sides of this length in pixels out of the centre of each image, after --resize."""
    skip_broken: bool = False
    """Leave out image files that cannot be read, and print their number. Without this option, they are an error."""
    train_examples: Examples | None = None
    """Number of training images, counted from the first. All images are used unless it is given."""
    model: Text = "lenet5"
    """Network of the target model and of the RSM: a registered name, timm/NAME, hf/DIRECTORY, hf/ORG/NAME, or your own
    package.module:factory."""
    weights: FilePath | None = None
    """Initial weights of these networks, safetensors or .pt. A last layer for other classes starts with fresh weights.
    All weights are fresh unless a file is given."""
    autoencoder: Literal["auto", "lenet", "residual"] = "auto"
    """Network of the LVCVAE: convolutions as in LeNet5, residual blocks as in CD-VAE, or auto (residual for colour)."""
    robust_part: Literal["residual", "reconstruction"] = "residual"
    """x_r, on which the target model is trained: the residual x − G(x), as published, or the reconstruction G(x)."""
    latent: Size = 256
    """Number d of latent dimensions of the LVCVAE."""

    epochs: Count = 150
    """Epochs of stage I, which trains the LVCVAE and the RSM together."""
    classifier_epochs: Count = 20
    """Epochs of stage III, which trains the target model, and epochs of the undefended standard models."""
    augmentation: Literal["none", "crop_flip"] = "none"
    """Augmentation of each training batch. crop_flip moves images by up to four pixels and mirrors half of them,
    which is the standard for CIFAR."""
    batch: Count = 256
    """Number of images in a training step, counted over all processes."""
    passes: Count = 1
    """Number of passes into which a process divides its part of a batch. Their gradients are added, so that a large
    batch fits into the memory of a small GPU. Batch norm sees each pass separately."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW in stage I. It decays to 0 along a cosine."""
    classifier_learning_rate: Rate = 1e-3
    """Learning rate of AdamW for the target model and the standard models. It decays to 0 along a cosine."""
    weight_decay: Weight = 1e-2
    """Weight decay of AdamW."""
    seed: Seed = 0
    """Seed of the initial weights, of the order of the images and of all noise."""

    alpha: Thirds = (10.0, 5.0, 1.0)
    """α: weight of the reconstruction loss L_rc in the first, second and last third of stage I."""
    beta: Weight = 0.2
    """β: weight of L_kl, the Kullback–Leibler divergence of the latent variables from N(0, 1)."""
    epsilon: Weight = 0.6
    """ε of eq. 6: weight of the rectification loss L_rf, the cross-entropy of a linear classifier of z."""
    gamma: Weight = 0.4
    """γ: weight of the classification loss L_cl, the cross-entropy of the RSM for x_r = x − G(x)."""
    delta: Weight = 0.2
    """δ: weight of the robustness loss L_rb of the RSM for x_r."""

    reconstruction: Literal["mean", "sum"] = "mean"
    """L_rc: the mean or the sum of the squared errors of all pixels."""
    kl: Literal["per_dimension", "sum"] = "per_dimension"
    """L_kl: divided by channels · d as in CD-VAE, or the sum as in eq. 2, with which the posterior collapses."""
    sigma: Deviation = 1.0
    """Size of v in eq. 5, in pixels of [0, 1]: σ if v is gaussian, the length h of CURE if v is sign_gradient."""
    perturbation: Literal["gaussian", "sign_gradient"] = "gaussian"
    """v of eq. 5: drawn from N(0, σ²I), or the sign of the gradient as in CURE (curvature regularisation)."""
    similarity: Literal["cosine", "l2"] = "cosine"
    """L_rb: minus the cosine of eq. 5, or the squared distance of eq. 4."""
    gradient_of: Literal["margin", "cross_entropy"] = "margin"
    """What eq. 5 differentiates: the log-odds m, here called margin, or the cross-entropy. The cosine is the same for
    both, but the gradient of the cross-entropy underflows in float32."""
    rsm_gradient: Literal["joint", "detached"] = "joint"
    """Whether the losses of the RSM also train the LVCVAE (joint, as in line 12 of algorithm 1) or not (detached)."""
    game: Literal["cooperative", "sign_flipped"] = "cooperative"
    """cooperative: the LVCVAE reduces the losses of the RSM, as in algorithm 1. sign_flipped: it increases them."""
    batch_norm: Literal["updated", "frozen"] = "updated"
    """Running statistics of batch norm in the RSM: updated once in each step, or frozen."""
    latent_at_inference: Literal["mean", "sampled"] = "mean"
    """z of the deployed defense: the mean μ, or drawn from N(μ, σ²)."""
    robust_dataset: Literal["once", "every_epoch"] = "once"
    """R_D, the data set of stage II: computed once, or again for each epoch."""
    target_start: Literal["fresh", "rsm"] = "fresh"
    """Initial weights of the target model in stage III: fresh ones, or those of the RSM."""

    device: Literal["auto", "cpu"] = "auto"
    """auto uses the GPU or another accelerator if there is one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of training. Evaluation always uses float32."""
    channels_last: bool = False
    """Whether images and weights are stored channels-last, which is faster for wide networks but not for LeNet5."""

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
"""The settings of the paper for CIFAR (section 4.1). Where it gives none, those that are usual in the field."""

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
"""Settings for two CPU cores and one hour, including all attacks (docs/measured.md says how they were chosen)."""

PRESETS: dict[str, Config] = {
    # the paper's ε, γ, δ, β and latent are the defaults; at a higher learning rate L_rb rises again (docs/measured.md)
    "mnist-lenet5": Config(epochs=150, classifier_epochs=20, learning_rate=1.5e-4),
    "quick": Config(epochs=3, classifier_epochs=2),
    # for grfd-robust, whose robust accuracy was highest with the larger of the two LVCVAEs
    "mnist-robust": Config(autoencoder="residual", epochs=9, classifier_epochs=20),
    "cifar10-wrn28-10": Config(data="cifar10", **_WIDE),
    "cifar100-wrn28-10": Config(data="cifar100", **_WIDE),
    "cifar10-small": Config(data="cifar10", **_SMALL),
    # a hundred classes need more epochs: after six, the accuracy of the standard model is only 20 %
    "cifar100-small": Config(data="cifar100", **_SMALL | {"epochs": 4, "classifier_epochs": 20}),
    # a larger network, which nobody has trained yet (docs/measured.md)
    "cifar10-medium": Config(data="cifar10", **_SMALL | {"model": "wrn-16-2-dropout-0", "classifier_epochs": 12}),
    # photographs of one's own, in one folder for each class: a table within 30 minutes on two cores
    "photo-small": Config(
        data="folder",
        resize=128,
        crop=128,
        train_examples=2000,
        model="small-resnet",
        epochs=4,
        classifier_epochs=12,
        classifier_learning_rate=4e-3,
        batch=64,
        augmentation="crop_flip",
        channels_last=True,
    ),
}


def preset(name: str, /, **changes: Any) -> Config:
    """A preset with some fields changed. Raises `UserError` for an unknown preset or field, or an impossible value."""
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(f"unknown preset {schema.quoted(name)}: expected one of {', '.join(PRESETS)}")
    return changed(PRESETS[name], **changes)


def changed(config: Config, /, **changes: Any) -> Config:
    """A configuration with some fields changed. Raises `UserError` for an unknown field or an impossible value."""
    known = {field.name for field in fields(Config)}
    for field in changes:
        if field not in known:
            raise UserError(f"unknown field {field!r}: expected one of {', '.join(sorted(known))}")
    return replace(config, **changes)


def checked_config(config: Config) -> Config:
    """The same record. Raises `UserError` if it is not a `Config`, or if a value is out of range."""
    if not isinstance(config, Config):
        raise UserError(f"expected a Config, got {schema.quoted(config)}")
    return schema.checked_settings(config)
