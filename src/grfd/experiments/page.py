"""docs/reproduction.md: the paper's numbers beside ours, computed from the records in results/ and nothing else."""

from pathlib import Path

from grfd import runs
from grfd.errors import UserError
from grfd.evaluation.protocols import PROTOCOLS
from grfd.evaluation.records import THREAT_MODELS, each_read_once, read_settings
from grfd.experiments import EXPERIMENTS, claims, long_run
from grfd.experiments.cells import DrawsFigures
from grfd.experiments.costs import costs_section
from grfd.experiments.records import left_early
from grfd.report.method_figure import draw_method

_HEAD = (
    """# Reproduction: GRFD on MNIST, the paper's numbers beside ours

*This page is written by `grfd page` from the records in `results/`. A test fails if the page and the records differ, so
please do not edit it.*

GRFD (GAN-based Robust Feature Disentanglement; GAN: generative adversarial network) is the defense of Li et al. 2025.
It splits an image x into a redundant part x_u = G(x) and a robust part x_r = x − x_u, and classifies x_r.

**Numbers.** All accuracies are in per cent, on the first test images of MNIST unless a section names another data set.
*Worst case* is the share of images that are classified correctly under *every* attack of the row. A number in brackets
is the number of images behind a cell, if it differs from the last column. *± x* is the standard deviation over seeds.
*[a, b]* is the 95 % interval over images, rounded to whole per cent: Wilson's for one seed, otherwise a bootstrap that
resamples images and keeps the answers of all seeds for an image together. p is the probability of a difference at least
as large between two equally good models; an image's differences over all seeds change their sign together.

**Attacks.** They have the budgets of the paper's Table 1. ε is the largest change of a pixel, on a scale of [0, 1]:

- FGSM (fast gradient sign method): ε = 26/255;
- PGD (projected gradient descent), EOTPGD (PGD with expectation over transformation, EOT, which averages gradients over
  the randomness of a defense) and VMIFGSM (variance-tuned momentum iterative FGSM): ε = 18/255, 100 steps of 8/255;
- AA (AutoAttack): ε = 20/255. Each section says which version of AutoAttack was run.

**Protocols.** A protocol is what the attacker knows. The paper names none. Here, adversarial examples are

"""
    + ";\n".join(f"- `{name}`: {meaning}" for name, meaning in PROTOCOLS.items())
    + """.

BPDA (backward pass differentiable approximation) replaces a part of the defense that has no useful gradient.

**Models.** *Standard* is the undefended LeNet5 on which transferred examples are made. *2nd standard* is another
undefended LeNet5, trained with another seed: whatever it keeps under `transfer` is not due to a defense. G is the
LVCVAE (latent variable constrained variational autoencoder). The RSM (robust supervisory model) f_φ is trained together
with G in stage I. F, the target model, is trained on x_r in stage III and deployed behind G.

**Losses.** The objective of stage I (eq. 6 of the paper) has five terms: L_rc (reconstruction), L_kl (Kullback–Leibler
divergence, KL), L_rf (rectification), L_cl (classification) and L_rb (robustness). Their weights are α, β, ε, γ and δ;
this ε is not the budget of an attack. CE is the cross-entropy, MSE the mean squared error.

**Masking checks** look for reasons not to believe a robust accuracy, for example gradients that vanish. A check that
sees such a reason is *flagged*.

The [glossary](glossary.md) explains all other terms, and [the protocols](protocols.md) has more on each of them."""
)


def write_page(results: Path, out: Path) -> None:
    """Writes the page and, into the same folder, its figures. Raises `UserError` if there are no records."""
    with each_read_once():
        runs.write_bytes(out, page(results).encode())
        for experiment in EXPERIMENTS.values():
            if isinstance(experiment, DrawsFigures):
                experiment.draw(results, out.parent)
    draw_method(out.parent)


def page(results: Path) -> str:
    """The text of the page. Raises `UserError` if `results` holds no records that the page is made of."""
    parts = long_run.section(results)
    for experiment in EXPERIMENTS.values():
        section = experiment.section(results)
        parts += section[1:] if section and section[0] in parts else section  # a shared opening is printed once
    parts += long_run.stopped_section(results) + costs_section(results)
    if not parts:
        raise UserError(f"{results} holds no evaluated run")
    opening = [_HEAD, _early_exit(results), *claims.section(results)]
    return "\n\n".join(part for part in [*opening, *parts] if part) + "\n"


def _early_exit(results: Path) -> str:
    """A warning that names the folders whose transferred examples left the attack at their first success; "" if none.

    The records show it: those of examples that took all steps contain the settings of the transfer.
    """
    old = sorted(
        {_run_of(results, path) for path in results.rglob("*/*/transfer/*.npz") if left_early(read_settings(path))}
    )
    if not old:
        return ""
    names = ", ".join(f"`{name}`" for name in old)
    return (
        "**Warning: some numbers under `transfer` and `adaptive` on this page are too high.** In the records of the "
        "folders below, each transferred example left its attack at its first success, just behind the decision "
        "boundary of the model on which it was made. Such examples transfer badly ([the comparison]"
        "(attacks.md#transfer)). `adaptive` includes the results of `transfer` and is therefore affected as well; "
        f"`whitebox` and `residual` are not. These experiments will be repeated: {names}."
    )


def _run_of(results: Path, path: Path) -> str:
    folder = path.relative_to(results).parents[3]
    return (folder.parent if folder.name == THREAT_MODELS else folder).as_posix()
