"""One look for all figures: mplhep's plain style, colour-blind safe colours, files without dates, and a table beside each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modelbuilder.publish.figure_numbers import Numbers, write_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Petroff, arXiv:2107.02270: ten colours that stay apart with all common colour vision deficiencies
COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
ONE_SIGMA, TWO_SIGMA = "#607641", "#F5BB54"
"""The bands: dark and light also in print without colour (CMS recommendation of 2024)."""
SIGNAL = COLOURS[2]
BACKGROUNDS = (*COLOURS[:2], *COLOURS[3:])
"""From the bottom of the stack, or the largest, upwards; none of them is the colour of the signal."""


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's settings for our figures, put back afterwards."""
    import matplotlib as mpl
    import mplhep

    own = {
        "figure.figsize": (7.0, 5.0),
        "font.size": 13,
        "axes.labelsize": 15,
        "legend.fontsize": 11,
        "legend.frameon": True,  # a plain white ground, so that no tick or line runs through the text
        "legend.facecolor": "white",
        "legend.edgecolor": "none",
        "legend.framealpha": 1.0,
        "legend.fancybox": False,
        "legend.borderpad": 0.1,
        "legend.borderaxespad": 1.3,
        "lines.linewidth": 1.5,
        "mathtext.cal": "sans",  # the style asks for a cursive font that few machines have
        "svg.hashsalt": "modelbuilder",
        "savefig.dpi": 150,
    }
    with mpl.rc_context():
        mplhep.style.use([mplhep.style.ROOT, own])
        yield


def save(figure: Figure, path: Path, numbers: Numbers) -> list[Path]:
    """Save as PDF and PNG, and its numbers as CSV, the same bytes each time; returns the three paths."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    with house_style():  # text is laid out when it is saved
        for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
            target = path.with_name(path.name + suffix)
            temporary = path.with_name(f".{path.name}.tmp{suffix}")
            figure.savefig(temporary, metadata=metadata, bbox_inches="tight")
            temporary.replace(target)
            written.append(target)
    plt.close(figure)
    written.append(write_numbers(path.with_name(f"{path.name}.csv"), numbers))
    return written


def label(axes: Axes, experiment: str, data: str, right: str) -> None:
    """Above the axes: the experiment and the kind of data on the left, the luminosity on the right."""
    name = axes.text(0.0, 1.015, experiment, transform=axes.transAxes, fontweight="bold", ha="left", va="bottom")
    axes.annotate(
        data, xy=(1.0, 0.0), xycoords=name, xytext=(8.0, 0.0), textcoords="offset points", style="italic", fontsize=11,
        ha="left", va="bottom",
    )  # fmt: skip
    axes.text(1.0, 1.015, right, transform=axes.transAxes, fontsize=12, ha="right", va="bottom")
