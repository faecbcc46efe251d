"""The method as a picture: how GRFD is trained, and what is deployed; for light and for dark backgrounds."""

from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from grfd.report.style import styled
from grfd.runs import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Colours:
    """What the figure is drawn in. Its own background is transparent."""

    text: str
    quiet: str
    network: str
    data: str


THEMES = {
    "light": Colours("#1f2328", "#59636e", "#d0e4f5", "#f3f4f6"),
    "dark": Colours("#f0f6fc", "#9198a1", "#1c3f5c", "#21262d"),
}
"""Name, which is also the end of the file's name → colours."""

HALF_HEIGHT = 0.3
"""Of every box, in the units of the figure."""


@dataclass(frozen=True)
class Box:
    """A network, an image or a loss: its middle, its width and what is written in it."""

    x: float
    y: float
    width: float
    text: str
    fill: str


def draw_method(folder: Path) -> list[Path]:
    """Writes method-light.svg and method-dark.svg into the folder: the same files each time."""
    files = [folder / f"method-{name}.svg" for name in THEMES]
    for file, colours in zip(files, THEMES.values(), strict=True):
        write_bytes(file, _svg(colours))
    return files


def _svg(colours: Colours) -> bytes:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    written = BytesIO()
    with styled(), mpl.rc_context({"svg.hashsalt": "grfd", "svg.fonttype": "path", "mathtext.fontset": "dejavusans"}):
        figure = Figure(figsize=(9.0, 3.9), facecolor="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 9.0), ylim=(0, 3.9))
        axes.set_axis_off()
        _training(axes, colours)
        _deployment(axes, colours)
        FigureCanvasSVG(figure).print_svg(written, metadata={"Date": None})
    return written.getvalue()


def _training(axes: "Axes", colours: Colours) -> None:
    """Stage I, and the losses of eq. 6 at the places where they arise."""
    _title(axes, 3.6, "Training: split the image so that the rest is useful and hard to perturb", colours)
    boxes = {
        "image": Box(0.55, 2.5, 0.6, "$x$", colours.data),
        "encoder": Box(1.75, 2.5, 1.0, "encoder $q_\\phi$", colours.network),
        "latents": Box(2.95, 2.5, 0.6, "$z$", colours.data),
        "decoder": Box(4.15, 2.5, 1.0, "decoder $p_\\theta$", colours.network),
        "redundant": Box(5.35, 2.5, 0.6, "$x_u$", colours.data),
        "robust": Box(6.35, 1.65, 1.2, "$x_r = x - x_u$", colours.data),
        "rsm": Box(8.0, 1.65, 1.2, "RSM $f_\\varphi$", colours.network),
        "rectification": Box(2.95, 1.65, 1.3, "rectification $f_\\psi$", colours.network),
    }
    for box in boxes.values():
        _draw(axes, box, colours)
    for start, end in (("image", "encoder"), ("encoder", "latents"), ("latents", "decoder"), ("decoder", "redundant")):
        _right(axes, boxes[start], boxes[end], colours)
    _right(axes, boxes["robust"], boxes["rsm"], colours)
    _arrow(axes, [(2.95, 2.5 - HALF_HEIGHT), (2.95, 1.65 + HALF_HEIGHT)], colours)
    _arrow(axes, [(5.35 + 0.3, 2.5), (6.35, 2.5), (6.35, 1.65 + HALF_HEIGHT)], colours)
    _arrow(axes, [(0.55, 2.5 + HALF_HEIGHT), (0.55, 3.2), (6.75, 3.2), (6.75, 1.65 + HALF_HEIGHT)], colours)
    _losses(axes, colours)


def _losses(axes: "Axes", colours: Colours) -> None:
    """What each part is trained for, beside it."""
    for x, y, text in (
        (2.95, 2.96, "generator $G$ (LVCVAE)"),
        (1.2, 1.98, "$L_{kl}$: near a normal distribution"),
        (4.75, 1.98, "$L_{rc}$: $x_u$ is like $x$"),
        (2.95, 1.19, "$L_{rf}$: classes gather"),
        (7.3, 1.19, "$L_{cl}$: the right class;  $L_{rb}$: gradients keep their direction"),
    ):
        axes.text(x, y, text, color=colours.quiet, fontsize=8, ha="center", va="center")


def _deployment(axes: "Axes", colours: Colours) -> None:
    """x ↦ F(x − G(x))."""
    axes.plot([0.25, 8.75], [0.95, 0.95], color=colours.quiet, linewidth=0.5)
    _title(axes, 0.45, "Deployed", colours)
    boxes = [
        Box(2.0, 0.45, 0.6, "$x$", colours.data),
        Box(3.55, 0.45, 1.5, "$x - G(x)$", colours.network),
        Box(5.4, 0.45, 1.5, "target model $F$", colours.network),
        Box(7.05, 0.45, 1.1, "class", colours.data),
    ]
    for box in boxes:
        _draw(axes, box, colours)
    for start, end in pairwise(boxes):
        _right(axes, start, end, colours)


def _title(axes: "Axes", y: float, text: str, colours: Colours) -> None:
    axes.text(0.25, y, text, color=colours.text, fontsize=9.5, fontweight="bold", va="center")


def _draw(axes: "Axes", box: Box, colours: Colours) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = (box.x - box.width / 2, box.y - HALF_HEIGHT)
    outline = FancyBboxPatch(corner, box.width, 2 * HALF_HEIGHT, "round,pad=0,rounding_size=0.07")
    outline.set(facecolor=box.fill, edgecolor=colours.quiet, linewidth=0.7)
    axes.add_patch(outline)
    axes.text(box.x, box.y, box.text, color=colours.text, fontsize=9, ha="center", va="center")


def _right(axes: "Axes", start: Box, end: Box, colours: Colours) -> None:
    _arrow(axes, [(start.x + start.width / 2, start.y), (end.x - end.width / 2, end.y)], colours)


def _arrow(axes: "Axes", corners: list[tuple[float, float]], colours: Colours) -> None:
    """A line through the corners, with a head at the last one."""
    from matplotlib.patches import FancyArrowPatch

    axes.plot(*zip(*corners[:-1], strict=True), color=colours.quiet, linewidth=0.9, solid_capstyle="butt")
    head = FancyArrowPatch(corners[-2], corners[-1], arrowstyle="-|>", mutation_scale=8, shrinkA=0, shrinkB=1)
    head.set(color=colours.quiet, linewidth=0.9)
    axes.add_patch(head)
