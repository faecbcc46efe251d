"""docs/attacks.md: our attacks compared with other libraries, derived only from results/attack_*.json."""

import json
from pathlib import Path
from typing import Any

from grfd import runs
from grfd.bench.libraries import THIS_LIBRARY
from grfd.bench.passes_page import curves_section, draw_passes, proof_section
from grfd.bench.transfer import AS_PROTOCOL, LARGEST_MARGIN, TORCHATTACKS_ITSELF, VARIANT_COLUMNS
from grfd.errors import UserError
from grfd.evaluation.numbers import column_titles
from grfd.report.sheets import Sheet, markdown

_HEAD = """# Our attacks compared with other libraries

*This page is written by `grfd page` from the files of `results/` whose names begin with `attack_`. A test writes it
again and fails if the result differs. Do not edit it.*

All libraries attack the same models and images with the same budget. They run in turn, in one process, without a GPU.
"Robust" is the robust accuracy: the share of images, in per cent, that are classified right after the attack.
Perturbations longer than the budget allows are not counted. Seconds are medians.

The models are an undefended LeNet5 and an adversarially trained LeNet5 on MNIST (ε is 18/255 in L∞ and 1.0 in L2; in
L1 it is 5 for the former and 7 for the latter), and a small residual network on MNIST in CIFAR's shape, 3×32×32 (ε is
6/255 in L∞ and 0.5 in L2)."""


def write_attacks_page(results: Path, out: Path) -> None:
    """Writes the page and, beside it, its figure. Raises `UserError` if there are no records."""
    runs.write_bytes(out, attacks_page(results).encode())
    if curves := _read(results / "attack_curves.json"):
        draw_passes(curves["rows"], out.parent)


def attacks_page(results: Path) -> str:
    """The text of the page. Raises `UserError` if there are no records."""
    parts = [_HEAD]
    names = ("speed", "parity", "parity_l1", "passes", "curves", "transfer")
    speed, parity, in_l1, passes, curves, transfer = (_read(results / f"attack_{name}.json") for name in names)
    if speed is None and parity is None and transfer is None:
        raise UserError(
            f"{results} contains no attack_speed.json, attack_parity.json or attack_transfer.json: "
            "run grfd bench parity --save FILE"
        )
    if speed:
        parts += ["## Speed", _about(speed), _speed(speed["rows"])]
    if parity:
        parts += ["## Strength", _about(parity), _parity(parity["rows"]), _weaker(parity["rows"])]
    if in_l1:
        parts += ["## Strength in L1", _about(in_l1), _parity(in_l1["rows"]), _weaker(in_l1["rows"])]
    if passes:
        parts += ["## A3 beside AutoAttack: robust accuracy and passes", _about(passes), *proof_section(passes["rows"])]
    if curves:
        parts += ["## What a pass buys", _about(curves), *curves_section(curves["rows"])]
    if transfer:
        parts += [
            "## Transfer",
            _about_transfer(transfer),
            _transfer(transfer["rows"]),
            _against_theirs(transfer["rows"]),
        ]
    return "\n\n".join(parts) + "\n"


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.exists() else None


def _about(record: dict[str, Any]) -> str:
    libraries = ", ".join(f"{name} {number}" for name, number in record["libraries"].items())
    machine, revision = record["machine"], (record["git_revision"] or "unknown")[:7]
    return (
        f"{record['examples']} images, seed {record['seed']}; last rows measured by grfd at {revision}; PyTorch "
        f"{record['versions']['torch']}, {libraries}; {machine['processors']} processors, {machine['threads']} threads."
    )


def _speed(rows: list[dict[str, Any]]) -> str:
    ours = {(row["model"], row["attack"]): row for row in rows if row["library"] == THIS_LIBRARY}
    lines = []
    for row in rows:
        mine = ours[row["model"], row["attack"]]
        if row is mine:
            continue
        numbers = (row["seconds"], row["seconds"] / mine["seconds"], 100 * row["robust"], 100 * mine["robust"])
        texts = [f"{value:.{digits}f}" for value, digits in zip(numbers, (1, 2, 1, 1), strict=True)]
        lines.append([row["model"], _name(row["attack"]), row["library"], str(row["repeats"]), *texts])
    header = ["model", "attack", "library", "repeats", "seconds", "× ours", "robust", "ours, robust"]
    return markdown(Sheet(header, lines, left=3))


def _parity(rows: list[dict[str, Any]]) -> str:
    libraries = list(dict.fromkeys(row["library"] for row in rows))
    table: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        table.setdefault((row["model"], row["attack"]), {})[row["library"]] = row["robust"]
    lines = []
    for (model, attack), shares in table.items():
        texts = [f"{100 * shares[name]:.1f}" if name in shares else "–" for name in libraries]
        lines.append([model, _name(attack), *texts])
    return markdown(Sheet(["model", "attack", *libraries], lines, left=2))


def _about_transfer(record: dict[str, Any]) -> str:
    machine = record["machine"]
    return f"""Examples are made on one undefended network (the source) and given to another one (the victim). There are
three networks on MNIST: two LeNet5 of different seeds and a small residual network. Every ordered pair is measured, and
the table contains the means over all pairs. A number is the share of the victim's images that are still classified
right, in per cent of those that it classifies right when they are clean. ε is larger than in Table 1 (0.15 in L∞, and 2
in L2 for C&W), because with Table 1's ε nearly every image would still be right.

- *first success*: an example leaves the attack as soon as the source is wrong, as in a fast white-box attack.
- *last iterate*: all steps are run, and the last iterate is used, as in the originals.
- *largest margin*: all steps are run, and the iterate that the source gets most wrong is used. On average, it transfers
  at least as well as the last iterate, so the protocol `transfer` uses it.
- *protocol*: the settings of the protocol `transfer` for attacks without this choice. The smallest perturbations of FAB
  and C&W are stretched to ε. Square continues after its first success. AA consists of APGD-CE and APGD-T. "AA
  (TorchAttacks)" is what that library returns, which is the clean image where it failed.

{_images(record["examples"])}, seed {record["seed"]}; PyTorch {record["versions"]["torch"]}, {machine["processors"]}
processors."""


def _images(examples: dict[str, int]) -> str:
    """The number of images for each attack."""
    counts = sorted(set(examples.values()), reverse=True)
    groups = {count: ", ".join(_name(name) for name in examples if examples[name] == count) for count in counts}
    return "; ".join(f"{count:,} images for {names}" for count, names in groups.items())


def _transfer(rows: list[dict[str, Any]]) -> str:
    lines = []
    for attack in dict.fromkeys(row["attack"] for row in rows):
        shares = [_mean(rows, attack, variant) for variant in VARIANT_COLUMNS]
        lines.append([_name(attack), *("–" if value is None else f"{100 * value:.1f}" for value in shares)])
    return markdown(Sheet(["attack", *VARIANT_COLUMNS], lines, left=1))


def _mean(rows: list[dict[str, Any]], attack: str, variant: str) -> float | None:
    values = [row["robust"] for row in rows if (row["attack"], row["variant"]) == (attack, variant)]
    return sum(values) / len(values) if values else None


def _against_theirs(rows: list[dict[str, Any]]) -> str:
    """By how much the share after our attack exceeds TorchAttacks', in the pair with the largest difference."""
    cells = {(row["attack"], row["source"], row["victim"], row["variant"]): row["robust"] for row in rows}
    most: dict[str, float] = {}
    for (attack, source, victim, variant), value in cells.items():
        theirs = cells.get((attack, source, victim, TORCHATTACKS_ITSELF))
        if variant in (LARGEST_MARGIN, AS_PROTOCOL) and theirs is not None:
            most[attack] = max(most.get(attack, -100.0), 100 * (value - theirs))
    if not most:
        return "TorchAttacks was not installed when this was measured."
    differences = ", ".join(f"{_name(attack)} {points:+.1f}" for attack, points in most.items())
    return f"Ours minus TorchAttacks', in points, in the pair of networks with the largest difference: {differences}."


def _weaker(rows: list[dict[str, Any]]) -> str:
    """Where our attack leaves a higher robust accuracy than another library's, by more than a tenth of a point."""
    ours = {(row["model"], row["attack"]): row["robust"] for row in rows if row["library"] == THIS_LIBRARY}
    others = [row for row in rows if row["library"] != THIS_LIBRARY]
    differences = [(row, 100 * (ours[row["model"], row["attack"]] - row["robust"])) for row in others]
    lines = [
        f"- {_name(row['attack'])}, {row['model']}: {points:.1f} points above {row['library']}"
        for row, points in sorted(differences, key=lambda pair: -pair[1])
        if points > 0.1
    ]
    if not lines:
        return "Nowhere is the robust accuracy after our attack more than 0.1 points above another library's."
    head = "Where the robust accuracy after our attack is more than 0.1 points above another library's:"
    return "\n".join([head, "", *lines])


def _name(attack: str) -> str:
    plain, norm = attack.removesuffix(" l2").removesuffix(" l1"), attack[-2:].upper()
    return column_titles().get(plain, plain) + (f" in {norm}" if plain != attack and plain != "cw" else "")
