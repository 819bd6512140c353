"""The figure of a simulated observable: histogram, fitted peak and its pulls, and the numbers that matter.

All numbers are computed first, as plain arrays and lines of text, and then drawn.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import UserError
from modelbuilder.histograms.peak import PeakFit, Tail
from modelbuilder.histograms.typeset import formula
from modelbuilder.publish import style
from modelbuilder.publish.figure_numbers import Numbers, unit_ending, write_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Text

FloatArray = npt.NDArray[np.float64]
Scale = Literal["linear", "log"]

MOST_BINS = 80
_SHAPES = {
    "gauss": "normal",
    "crystal-ball-left": "Crystal Ball",
    "crystal-ball-right": "Crystal Ball",
    "double-crystal-ball": "double Crystal Ball",
}
_METADATA: dict[str, dict[str, None]] = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}
_DECADES = 4.0  # of a logarithmic axis, below the highest bin


@dataclass(frozen=True, kw_only=True)
class SimulatedObservable:
    """What a simulation says of one observable.

    experiment, search: names for the head of the figure.    process: as in the spec, `e+ e- -> gamma a, a -> ...`.
    point: of the grid, in words for a reader, such as `m_a = 3 GeV`; empty for a background.
    label, unit: of the observable; the label may hold a formula, the unit is `GeV`, `GeV^2`, `1` and the like.
    edges: shape (n_bins + 1,).    values, variances: sums of weights and of their squares, shape (n_bins,).
    weights: what the vertical axis counts.
    fit: of these bins, or None with the reason in `no_fit`.
    efficiency: and its standard deviation, after all cuts; None where it means nothing.
    varied: values of templates with a systematic up and down, by its name; shapes (n_bins,).
    """

    experiment: str
    search: str
    process: str
    point: str
    label: str
    unit: str
    edges: FloatArray
    values: FloatArray
    variances: FloatArray
    weights: str = "events"
    fit: PeakFit | None = None
    no_fit: str = ""
    efficiency: tuple[float, float] | None = None
    varied: Mapping[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2 of the histogram; 0 if it is empty."""
        squared = float(self.variances.sum())
        return float(self.values.sum()) ** 2 / squared if squared > 0.0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The bins that are drawn: the part of the histogram with something in it, merged to what an eye can tell apart.

    edges: shape (n + 1,).    values, stdevs: shape (n,).    expected, pulls: of the fit, or None.
    varied: values by name and direction.
    """

    edges: FloatArray
    values: FloatArray
    stdevs: FloatArray
    expected: FloatArray | None
    pulls: FloatArray | None
    varied: Mapping[str, tuple[FloatArray, FloatArray]]

    @property
    def largest(self) -> float:
        varied = [values for pair in self.varied.values() for values in pair]
        expected = [] if self.expected is None else [self.expected]
        return float(np.max(np.concatenate([self.values + self.stdevs, *expected, *varied])))


def panel_of(observable: SimulatedObservable, most_bins: int = MOST_BINS) -> Panel:
    """What to draw: the window of the fit, or all that is filled, in at most `most_bins` bins."""
    edges = observable.edges
    fit = observable.fit
    filled = np.flatnonzero(observable.values != 0.0)
    first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, len(observable.values))
    if fit is not None:
        first = max(first, int(np.searchsorted(edges, fit.low, side="left")))
        last = min(last, int(np.searchsorted(edges, fit.high, side="left")))
    margin = max(1, (last - first) // 20)
    first, last = max(first - margin, 0), min(last + margin, len(observable.values))
    per_bin = -(-(last - first) // most_bins)
    last = min(first + per_bin * -(-(last - first) // per_bin), len(observable.values))
    starts = np.arange(first, last, per_bin)

    def merged(per_fine_bin: FloatArray) -> FloatArray:
        return np.add.reduceat(per_fine_bin[:last], starts)

    drawn = np.append(edges[starts], edges[last])
    values, variances = merged(observable.values), merged(observable.variances)
    expected = pulls = None
    if fit is not None:
        expected = fit.expected(drawn)
        mean_weight = float(observable.variances.sum() / observable.values.sum())
        unit = np.divide(variances, values, out=np.full_like(values, mean_weight), where=values > 0.0)
        pulls = (values - expected) / np.sqrt(np.maximum(expected * unit, 1e-300))
    return Panel(
        edges=drawn,
        values=values,
        stdevs=np.sqrt(variances),
        expected=expected,
        pulls=pulls,
        varied={name: (merged(up), merged(down)) for name, (up, down) in observable.varied.items()},
    )


def panel_numbers(unit: str, panel: Panel) -> Numbers:
    """The bins that are drawn, with all that is drawn of them. unit: of the observable."""
    ending = unit_ending(unit)
    numbers = {
        f"low{ending}": panel.edges[:-1],
        f"high{ending}": panel.edges[1:],
        "simulated": panel.values,
        "simulated_stdev": panel.stdevs,
    }
    if panel.expected is not None and panel.pulls is not None:
        numbers |= {"fit": panel.expected, "pull": panel.pulls}
    for name, (up, down) in panel.varied.items():
        numbers |= {f"{name} (up)": up, f"{name} (down)": down}
    return numbers


# ---------------------------------------------------------------------------------------------------- numbers in words


def decimals_of(stdev: float) -> int:
    """Decimal places to quote with a standard deviation: two digits of it up to 0.354, one up to 0.949 (PDG rule)."""
    exponent = math.floor(math.log10(stdev))
    leading = stdev / 10.0**exponent
    return -exponent + (1 if leading < 3.55 or leading >= 9.5 else 0) - (1 if leading >= 9.5 else 0)


def with_stdev(value: float, stdev: float, unit: str) -> str:
    """`20.31 ± 0.14 MeV`: rounded by its standard deviation; GeV below 0.1 become MeV. No `±` where it is not known."""
    if unit == "GeV" and abs(value) < 0.1 and (not stdev > 0.0 or stdev < 0.1):
        value, stdev, unit = 1e3 * value, 1e3 * stdev, "MeV"
    behind = "" if unit in ("", "1") else f" {unit_text(unit)}"
    if not (math.isfinite(stdev) and stdev > 0.0):
        return f"{value:.4g}{behind}".replace("-", "\N{MINUS SIGN}")
    decimals = decimals_of(stdev)
    if decimals > 6 or decimals < -3:  # too long to read: a common power of ten
        power = math.floor(math.log10(max(abs(value), stdev)))
        mantissa = with_stdev(value / 10.0**power, stdev / 10.0**power, "1")
        return rf"({mantissa}) $\times$ 10$^{{{power}}}${behind}"
    places = max(decimals, 0)
    rounded = f"{round(value, decimals):.{places}f} ± {round(stdev, decimals):.{places}f}{behind}"
    return rounded.replace("-", "\N{MINUS SIGN}")


def unit_text(unit: str) -> str:
    """`GeV$^2$` for GeV^2."""
    base, hat, power = unit.partition("^")
    return f"{base}$^{{{power}}}$" if hat else base


def lines_of(observable: SimulatedObservable) -> list[str]:
    """The numbers of the figure, one line each; sigma_68 is half of the central 68.3 % of all entries."""
    fit = observable.fit
    unit = observable.unit
    lines = []
    if fit is not None:
        lines.append(_SHAPES[fit.shape] if fit.acceptable else f"{_SHAPES[fit.shape]}, does not fit")
        lines.append(f"deviance/dof = {fit.deviance:.1f}/{fit.n_dof}")
        lines.append(rf"$\mu$ = {with_stdev(fit.location, fit.location_stdev, unit)}")
        if fit.bias is not None:
            lines.append(f"bias = {with_stdev(fit.bias, fit.location_stdev, unit)}")
        lines.append(rf"$\sigma$ = {with_stdev(fit.sigma, fit.sigma_stdev, unit)}")
        for tail, side in ((fit.left, "L"), (fit.right, "R")):
            lines += [] if tail is None else _tail_lines(tail, side)
        if math.isfinite(fit.half_width):
            lines.append(rf"$\sigma_{{68}}$ = {with_stdev(fit.half_width, fit.half_width_stdev, unit)}")
    elif observable.effective_sample_size > 0.0:
        lines += textwrap.wrap(f"not fitted: {observable.no_fit}" if observable.no_fit else "not fitted", 40)[:4]
    lines.append(f"effective entries: {_count_text(observable.effective_sample_size)}")
    if observable.efficiency is not None:
        percent, stdev = (100.0 * number for number in observable.efficiency)
        quoted = with_stdev(percent, stdev, "1")
        lines.append(f"efficiency = ({quoted}) %" if "±" in quoted else f"efficiency = {quoted} %")
    return lines


def _tail_lines(tail: Tail, side: str) -> list[str]:
    n = with_stdev(tail.n, tail.n_stdev, "1") if tail.n_stdev < tail.n else f"{tail.n:.2g}, not determined"
    return [rf"$\alpha_{side}$ = {with_stdev(tail.alpha, tail.alpha_stdev, '1')}", f"$n_{side}$ = {n}"]


def _count_text(number: float) -> str:
    """`12 345`, with thin spaces."""
    return f"{number:,.0f}".replace(",", "\N{THIN SPACE}")


# -------------------------------------------------------------------------------------------------------------- drawing


def observable_figure(observable: SimulatedObservable, *, scale: Scale = "linear") -> Figure:
    """Histogram with statistical errors, fitted curve, varied templates, numbers; pulls below if there is a fit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panel = panel_of(observable)
    with style.house_style():
        figure = Figure(figsize=(7.0, 6.2 if panel.pulls is not None else 5.0))
        FigureCanvasAgg(figure)
        if panel.pulls is not None:
            axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
            figure.subplots_adjust(hspace=0.06)
            _draw_pulls(below, panel)
        else:
            axes = below = figure.subplots()
        _draw_histogram(axes, observable, panel)
        axes.set_xlim(panel.edges[0], panel.edges[-1])
        unit = "" if observable.unit in ("", "1") else f" [{unit_text(observable.unit)}]"
        below.set_xlabel(f"{observable.label}{unit}")
        axes.set_ylabel(f"{observable.weights} / {_width_text(panel, observable.unit)}")
        numbers = axes.text(
            0.035, 0.965, "\n".join(lines_of(observable)), transform=axes.transAxes, fontsize=10.5, va="top",
            linespacing=1.3, zorder=5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 2.0},
        )  # fmt: skip
        blocks: list[Text | Legend] = [numbers]
        handles, labels = axes.get_legend_handles_labels()
        if handles:  # the simulation, which is drawn above the others, before them
            blocks.append(axes.legend(handles[::-1], labels[::-1], loc="upper right", borderaxespad=0.8))
        style.label(axes, observable.experiment, "simulation", observable.point)
        heading = [*textwrap.wrap(observable.search, 80), *_wrapped(observable.process)]
        axes.text(0.0, 1.1, "\n".join(heading), transform=axes.transAxes, fontsize=10.5, va="bottom", linespacing=1.25)
        if panel.largest > 0.0:
            _make_room(axes, panel, blocks, scale)
        else:
            axes.set_ylim(0.0, 1.0)
            axes.text(0.5, 0.4, "no entries", transform=axes.transAxes, ha="center", color="0.4", fontsize=15)
    return figure


def draw_observable(path: Path, observable: SimulatedObservable, *, scale: Scale = "linear") -> list[Path]:
    """Draw and save; the same bytes each time. Returns the files.

    path: of a .png or a .pdf, or without suffix for both; a name with another suffix gets .pdf and .png behind it. The
    numbers lie beside it as .csv.
    Raises UserError where nothing can be written.
    """
    figure = observable_figure(observable, scale=scale)
    numbers = panel_numbers(observable.unit, panel_of(observable))
    suffixes = [path.suffix] if path.suffix in _METADATA else list(_METADATA)
    written = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for suffix in suffixes:
            target = path if path.suffix == suffix else path.with_name(path.name + suffix)
            temporary = target.with_name(f".{target.stem}.tmp{suffix}")
            try:
                with style.house_style():  # text is laid out when it is saved
                    figure.savefig(temporary, metadata=_METADATA[suffix], bbox_inches="tight")
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            written.append(target)
        table = path.with_suffix(".csv") if path.suffix in _METADATA else path.with_name(f"{path.name}.csv")
        written.append(write_numbers(table, numbers))
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror or error}"
        raise UserError(msg) from None
    return written


def _draw_histogram(axes: Axes, observable: SimulatedObservable, panel: Panel) -> None:
    centres = 0.5 * (panel.edges[1:] + panel.edges[:-1])
    shown = panel.stdevs > 0.0
    for colour, (name, (up, down)) in zip(
        itertools.cycle((style.COLOURS[0], style.COLOURS[4], style.COLOURS[5], style.COLOURS[8])),
        panel.varied.items(),
        strict=False,
    ):
        axes.stairs(up, panel.edges, color=colour, lw=1.3, label=f"{name}, up")
        axes.stairs(down, panel.edges, color=colour, lw=1.3, ls=(0, (4, 2)), label=f"{name}, down")
    if shown.any():
        axes.errorbar(
            centres[shown], panel.values[shown], yerr=panel.stdevs[shown], fmt="o", ms=3.0, lw=1.0, color="black",
            label="simulation", zorder=3,
        )  # fmt: skip
    fit = observable.fit
    if fit is not None:
        # of each bin what the fit expects there, as a smooth curve: integrals of bins that slide along
        width = float(np.median(np.diff(panel.edges)))
        x = np.linspace(max(fit.low, float(panel.edges[0])), min(fit.high, float(panel.edges[-1])), 801)
        y = np.array([fit.expected([point - 0.5 * width, point + 0.5 * width])[0] for point in x.tolist()])
        axes.plot(x, y, color=style.SIGNAL, lw=1.8, label="fit", zorder=4)


def _draw_pulls(axes: Axes, panel: Panel) -> None:
    assert panel.pulls is not None
    centres = 0.5 * (panel.edges[1:] + panel.edges[:-1])
    axes.axhline(0.0, color="0.4", lw=1)
    axes.bar(centres, np.clip(panel.pulls, -5.0, 5.0), width=np.diff(panel.edges), color="0.55")
    axes.set_ylim(-5.0, 5.0)
    axes.set_yticks([-3, 0, 3])
    axes.set_ylabel("pull")


def _make_room(axes: Axes, panel: Panel, blocks: Sequence[Text | Legend], scale: Scale) -> None:
    """Set the vertical axis so that nothing that is drawn runs into the numbers or the legend."""
    tops = np.maximum.reduce(
        [
            panel.values + panel.stdevs,
            *([] if panel.expected is None else [panel.expected]),
            *(values for pair in panel.varied.values() for values in pair),
        ]
    )
    if scale == "log":
        axes.set_yscale("log")
        smallest = float(np.min(tops[tops > 0.0]))
        floor = max(0.5 * smallest, panel.largest * 10.0**-_DECADES)
        heights = np.log10(np.maximum(tops, floor) / floor)
    else:
        floor = 0.0
        heights = tops
    axes.figure.canvas.draw()
    top = float(np.max(heights)) / 0.93
    frame = axes.get_window_extent()
    low = (panel.edges[:-1] - panel.edges[0]) / (panel.edges[-1] - panel.edges[0])
    high = (panel.edges[1:] - panel.edges[0]) / (panel.edges[-1] - panel.edges[0])
    for block in blocks:
        box = block.get_window_extent()
        left, right = ((edge - frame.x0) / frame.width for edge in (box.x0 - 4.0, box.x1 + 4.0))
        beneath = (high > left) & (low < right)
        bottom = (box.y0 - frame.y0) / frame.height - 0.03
        if beneath.any():
            top = max(top, float(np.max(heights[beneath])) / max(bottom, 0.2))
    axes.set_ylim(floor, floor * 10.0**top if scale == "log" else top)


def _width_text(panel: Panel, unit: str) -> str:
    widths = np.diff(panel.edges)
    usual = float(np.median(widths))
    if np.any(np.abs(widths[:-1] - usual) > 1e-6 * usual):
        return "bin"
    return with_stdev(usual, math.nan, unit)


def _wrapped(process: str) -> list[str]:
    """The process as formulas, a new line where it would be too long, at a comma."""
    lines: list[list[str]] = []
    for part in (part.strip() for part in process.split(",")):
        if lines and len(", ".join([*lines[-1], part])) <= 80:
            lines[-1].append(part)
        else:
            lines.append([part])
    return [formula(", ".join(line)) for line in lines]
