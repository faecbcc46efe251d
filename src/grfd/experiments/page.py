"""docs/reproduction.md: the paper's numbers beside ours, derived from the records in results/ and from nothing else."""

from pathlib import Path

from grfd import runs
from grfd.errors import UserError
from grfd.evaluation.protocols import PROTOCOLS
from grfd.evaluation.records import read_settings
from grfd.experiments import fig2, fig4a, fig4b, long_run, readings, table2
from grfd.experiments import rsm_section as rsm
from grfd.experiments.robust import section as robust_section
from grfd.experiments.table3 import section as rivals

_HEAD = (
    """# Reproduction: GRFD on MNIST, paper and ours side by side

*Written by `grfd page` from the records in `results/`; a test derives it again and fails where it differs. Do not
edit.* Accuracy in per cent on MNIST's first test images, attacks and budgets of the paper's Table 1 (ε in pixels of
[0, 1]: FGSM 26/255; PGD, EOTPGD, VMIFGSM 18/255, steps of 8/255, 100 of them; AA 20/255, of which each section says
what it is). The paper names no protocol. "Worst case" is the share of images that are right under *every* attack of the
line. A number in brackets says on how many images, where that differs from the last column.

What the attacker knows:

"""
    + "\n".join(f"- `{name}`: {meaning}" for name, meaning in PROTOCOLS.items())
    + """

"Standard" is the undefended LeNet5 on which transferred examples are made; "2nd standard" is another undefended LeNet5,
of another seed: what it keeps under `transfer` is no defense at all."""
)


def write_page(results: Path, out: Path) -> None:
    """Writes the page, and beside it the figures that it shows. Raises `UserError` where the records are not there."""
    runs.write_bytes(out, page(results).encode())
    for experiment in (fig2, fig4a, fig4b, robust_section):
        experiment.draw(results, out.parent)


def page(results: Path) -> str:
    """The page's text."""
    parts = long_run.section(results)
    parts += rivals.section(results)
    parts += rivals.small_section(results, "cifar10") + rivals.small_section(results, "cifar100")
    for experiment in (table2, fig2, fig4a, fig4b, readings):
        first, *others = experiment.section(results) or [""]
        parts += others if first in parts else [first, *others]
    parts += rsm.section(results) + robust_section.section(results)
    parts += long_run.stopped_section(results)
    if not parts:
        raise UserError(f"{results} holds no evaluated run")
    return "\n\n".join(part for part in [_HEAD, _early_exit(results), *parts] if part) + "\n"


def _early_exit(results: Path) -> str:
    """A warning that names the folders whose transferred examples left the attack at their first success; "" if none.

    Records say so themselves: those of all steps hold the settings of the transfer.
    """
    old = sorted({_run_of(results, path) for path in results.rglob("records/*/transfer/*.npz") if _left_early(path)})
    if not old:
        return ""
    names = ", ".join(f"`{name}`" for name in old)
    return (
        "**Warning: some numbers under `transfer` and `adaptive` on this page are too high.** In the records of the "
        "folders named here, a transferred example left its attack at its first success, just behind the decision "
        "boundary of the model that it was made on. Such examples transfer badly (docs/attacks.md has the comparison). "
        "`adaptive`, which takes over what `transfer` found, is affected too; `whitebox` and `residual` are not. They "
        f"will be measured again: {names}."
    )


def _run_of(results: Path, path: Path) -> str:
    return path.relative_to(results).parents[3].as_posix()


def _left_early(path: Path) -> bool:
    return "transfer" not in read_settings(path)
