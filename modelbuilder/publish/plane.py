"""Figures of a run in the plane of two masses: maps of a limit, and limits along one mass for values of the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelbuilder.publish import style
from modelbuilder.publish.figure_numbers import Numbers
from modelbuilder.publish.figures import (
    METHOD_NAMES,
    LimitCurve,
    ceiling_of,
    data_text,
    draw_limits,
    floor_of,
    limit_curve_of,
    limit_numbers,
    limited_quantities,
    luminosity_text,
    mass_symbol,
)
from modelbuilder.scan.store import FIGURES
from modelbuilder.spec.load import LoadedSearch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

N_SLICES = 4
LEAST_POINTS = 8
"""Of a slice; with fewer it is not drawn."""
_SPARSE = 0.5  # of the grid: with a smaller part of it points are drawn, not cells


@dataclass(frozen=True, kw_only=True)
class LimitMap:
    """Limits in the plane by one method, arrays of n points in the order of the grid; failed points are NaN.

    masses: shape (n, 2).    cells: lower and upper ends along both axes, shape (n, 2, 2), or None where most grid points
    are missing.    observed, expected: the latter the median, NaN without a band.
    """

    masses: FloatArray
    cells: FloatArray | None
    observed: FloatArray
    expected: FloatArray


def limit_map(search: LoadedSearch, rows: Sequence[Mapping[str, Any]], quantity: str, method: str) -> LimitMap:
    """The limits on `quantity` (a column name without its band) from the rows of a run."""
    chosen = [row for row in rows if row["method"] == method]
    named = {point.name: place for place, point in enumerate(search.points)}
    cells = None
    if len(chosen) > _SPARSE * len(search.points):
        gaps = [[(gap.low, gap.high) for gap in axis.gaps] for axis in search.spec.grid.values()]
        cells = cells_of(np.array([point.masses for point in search.points]), gaps)
        cells = cells[[named[str(row["point"])] for row in chosen]]

    def column(name: str) -> FloatArray:
        return np.array([math.nan if row.get(name) is None else float(row[name]) for row in chosen])

    return LimitMap(
        masses=np.column_stack([column(f"{variable}_gev") for variable in search.spec.grid_variables]),
        cells=cells,
        observed=column(f"{quantity}_observed"),
        expected=column(f"{quantity}_expected"),
    )


def cells_of(masses: FloatArray, gaps: Sequence[Sequence[tuple[float, float]]]) -> FloatArray:
    """Cells that tile a grid of rows, shape (n, 2, 2): lower and upper ends along both axes.

    masses: shape (n, 2), sorted.    gaps: of both axes; they stay empty. At the ends of a row or of the rows, a cell
    reaches as far outwards as inwards, but not below 0.
    """
    starts = np.flatnonzero(np.diff(masses[:, 0], prepend=-1.0) > 0.0)
    rows = [slice(a, b) for a, b in zip(starts, [*starts[1:], len(masses)], strict=True)]
    outer = _ends(masses[starts, 0], gaps[0])
    cells = np.empty((len(masses), 2, 2))
    for row, ends in zip(rows, outer, strict=True):
        cells[row, 0] = ends
        cells[row, 1] = _ends(masses[row, 1], gaps[1], float(ends[1] - ends[0]))
    return cells


def _ends(values: FloatArray, gaps: Sequence[tuple[float, float]], alone: float = 0.1) -> FloatArray:
    """Lower and upper ends of the cells of rising values, shape (n, 2). alone: length of the only one."""
    if len(values) == 1:
        return np.array([[values[0] - 0.5 * alone, values[0] + 0.5 * alone]])
    middles = 0.5 * (values[1:] + values[:-1])
    low = np.concatenate([[2.0 * values[0] - middles[0]], middles])
    high = np.concatenate([middles, [2.0 * values[-1] - middles[-1]]])
    for start, end in gaps:
        low = np.where((values >= end) & (low < end), end, low)
        high = np.where((values <= start) & (high > start), start, high)
    return np.column_stack([np.maximum(low, 0.0), high])


def map_figure(
    search: LoadedSearch, rows: Sequence[Mapping[str, Any]], quantity: str, label: str, method: str
) -> Figure:
    """Observed limit and expected median, with one scale of colours."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    spec = search.spec
    found = limit_map(search, rows, quantity, method)
    parts = [("observed", found.observed), ("expected median", found.expected)]
    parts = [(name, values) for name, values in parts if np.isfinite(values).any()]
    values = np.concatenate([part[np.isfinite(part) & (part > 0.0)] for _, part in parts])
    norm = LogNorm(*np.quantile(values, [0.001, 0.999])) if len(values) else LogNorm(1.0, 10.0)
    first, second = spec.grid_variables
    with style.house_style():
        figure, every = plt.subplots(
            1,
            len(parts),
            figsize=(1.0 + 5.2 * len(parts), 4.8),
            squeeze=False,
            sharex=True,
            sharey=True,
            layout="constrained",
        )
        for axes, (name, part) in zip(every[0], parts, strict=True):
            drawn = draw_map(axes, found, part, norm)
            axes.set_xlabel(f"{mass_symbol(first)} [GeV]")
            axes.text(0.0, -0.1, name, transform=axes.transAxes, ha="left", va="top", fontsize=13)  # no cell below it
        every[0][0].set_ylabel(f"{mass_symbol(second)} [GeV]")
        bar = figure.colorbar(drawn, ax=list(every[0]), extend="both", pad=0.01)
        level = f"{100 * spec.statistics.confidence_level:g}% CL, {METHOD_NAMES[method]}"
        bar.set_label(f"upper limit on {label}\n{level}", fontsize=12)
        style.label(every[0][0], spec.experiment.title, data_text(spec.data), "")
        every[0][-1].set_title(luminosity_text(spec), fontsize=12, loc="right", pad=6)
    return figure


def draw_map(axes: Axes, found: LimitMap, values: FloatArray, norm: Any) -> Any:
    """Cells, or points, coloured by their limit; what has none stays white."""
    from matplotlib.collections import PolyCollection

    known = np.isfinite(values)
    if found.cells is None:
        drawn: Any = axes.scatter(
            found.masses[known, 0], found.masses[known, 1], c=values[known], norm=norm, s=28, cmap="viridis"
        )
    else:
        x0, x1, y0, y1 = found.cells[known].reshape(-1, 4).T
        corners = np.stack([np.stack([x0, x1, x1, x0], axis=1), np.stack([y0, y0, y1, y1], axis=1)], axis=2)
        drawn = PolyCollection(
            list(corners), array=values[known], norm=norm, cmap="viridis", edgecolors="face", linewidths=0.1,
            rasterized=True,
        )  # fmt: skip
        axes.add_collection(drawn)
        axes.autoscale_view()
    axes.margins(0.02)
    return drawn


def slices_of(
    search: LoadedSearch, rows: Sequence[Mapping[str, Any]], quantity: str, method: str, along: int
) -> list[tuple[float, LimitCurve]]:
    """Limits along one mass (0 or 1) at up to N_SLICES values of the other, each with its value, GeV.

    Along the second mass, which is the one that runs within a row of the grid, a slice is such a row. Along the first
    it takes, of each row, the point that is closest to the value, where that lies within half a step of it.
    """
    names = search.spec.grid_variables
    chosen = sorted(
        (row for row in rows if row["method"] == method), key=lambda row: [float(row[f"{name}_gev"]) for name in names]
    )
    masses = np.array([[float(row[f"{name}_gev"]) for name in names] for row in chosen])
    if not len(masses):
        return []
    starts = np.flatnonzero(np.diff(masses[:, 0], prepend=-1.0) > 0.0)
    lines = [np.arange(a, b) for a, b in zip(starts, [*starts[1:], len(masses)], strict=True)]
    picked: list[tuple[float, list[int]]] = []
    if along == 1:
        long = [line for line in lines if len(line) >= LEAST_POINTS]
        for place in sorted({round(x) for x in np.linspace(0, len(long) - 1, N_SLICES)} if long else set()):
            picked.append((float(masses[long[place][0], 0]), long[place].tolist()))
    else:
        longest = max(lines, key=len)
        for share in np.linspace(0.0, 0.75, N_SLICES):
            value = float(masses[longest[round(share * (len(longest) - 1))], 1])
            picked.append((value, [place for line in lines if (place := _closest(masses[line, 1], line, value)) >= 0]))
    gaps = [(gap.low, gap.high) for gap in search.spec.grid[names[along]].gaps]
    confidence = search.spec.statistics.confidence_level
    curves = []
    for value, places in picked:
        if len(places) >= LEAST_POINTS:
            some = [chosen[place] for place in places]
            curves.append((value, limit_curve_of(some, names[along], quantity, method, confidence, gaps)))
    return curves


def _closest(values: FloatArray, places: npt.NDArray[np.int64], value: float) -> int:
    """The place of the value closest to one, if that lies within its cell; -1 otherwise."""
    nearest = int(np.argmin(np.abs(values - value)))
    low, high = _ends(values, [], 1e-9)[nearest]
    return int(places[nearest]) if low <= value <= high else -1


def slices_figure(search: LoadedSearch, curves: Sequence[tuple[float, LimitCurve]], label: str, along: int) -> Figure:
    """One panel for each slice, with bands."""
    import matplotlib.pyplot as plt

    spec = search.spec
    names = spec.grid_variables
    floor = floor_of([curve for _, curve in curves])
    top = 0.3 * max(ceiling_of(curve) for _, curve in curves)  # less room for the legend than in one large figure
    with style.house_style():
        columns = min(2, len(curves))
        lines = -(-len(curves) // columns)
        figure, every = plt.subplots(
            lines, columns, figsize=(1.0 + 5.5 * columns, 0.8 + 3.4 * lines), squeeze=False, sharex=True, sharey=True
        )
        figure.subplots_adjust(hspace=0.06, wspace=0.04)
        for axes in every.ravel()[len(curves) :]:
            axes.set_visible(False)
        for place, (axes, (value, curve)) in enumerate(zip(every.ravel(), curves, strict=False)):
            draw_limits(axes, curve, [], floor)
            axes.set_ylim(floor, top)
            axes.set_xlabel(f"{mass_symbol(names[along])} [GeV]" if place >= len(curves) - columns else "")
            axes.text(
                0.97, 0.95, f"{mass_symbol(names[1 - along])} = {value:g} GeV", transform=axes.transAxes, ha="right",
                va="top", fontsize=12,
            )  # fmt: skip
            if place % columns == 0:
                axes.set_ylabel(label)
        first = curves[0][1]
        level = f"{100 * first.confidence_level:g}% CL upper limit, {METHOD_NAMES[first.method]}"
        every[0][0].legend(title=level, title_fontsize=10, fontsize=9.5, loc="upper left", ncols=1)
        style.label(every[0][0], spec.experiment.title, data_text(spec.data), "")
        every[0][-1].set_title(luminosity_text(spec), fontsize=12, loc="right")
    return figure


def map_numbers(search: LoadedSearch, found: LimitMap, quantity: str) -> Numbers:
    """Masses, the ends of the cells where there are any, and both limits."""
    numbers = {f"{name}_gev": found.masses[:, axis] for axis, name in enumerate(search.spec.grid_variables)}
    if found.cells is not None:
        for axis, name in enumerate(search.spec.grid_variables):
            numbers |= {f"{name}_low_gev": found.cells[:, axis, 0], f"{name}_high_gev": found.cells[:, axis, 1]}
    return {**numbers, f"{quantity}_observed": found.observed, f"{quantity}_expected": found.expected}


def slices_numbers(
    search: LoadedSearch, curves: Sequence[tuple[float, LimitCurve]], quantity: str, along: int
) -> Numbers:
    """The panels one after the other, each row with the value of the other mass; columns as of `limit_numbers`."""
    names = search.spec.grid_variables
    panels = [limit_numbers(curve, (), names[along], quantity) for _, curve in curves]
    columns = list(dict.fromkeys(name for panel in panels for name in panel))
    numbers = {f"{names[1 - along]}_gev": np.concatenate([np.full(len(curve.mass), value) for value, curve in curves])}
    for column in columns:
        missing = [np.full(len(curve.mass), math.nan) for _, curve in curves]
        found = [np.asarray(panel.get(column, none)) for panel, none in zip(panels, missing, strict=True)]
        numbers[column] = np.concatenate(found)
    return numbers


def draw_plane_figures(search: LoadedSearch, run: Path, rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Maps, and slices along both masses, of the cross section and of the couplings by each method."""
    written = []
    rows = [row for row in rows if row["status"] == "ok"]
    for quantity, label in limited_quantities(search).items():
        for method in search.spec.statistics.methods:
            name = f"limit_{quantity}_{method}"
            figure = map_figure(search, rows, quantity, label, method)
            numbers = map_numbers(search, limit_map(search, rows, quantity, method), quantity)
            written += style.save(figure, run / FIGURES / f"{name}_map", numbers)
            for along, variable in enumerate(search.spec.grid_variables):
                curves = slices_of(search, rows, quantity, method, along)
                curves = [(value, curve) for value, curve in curves if np.isfinite(curve.observed).any()]
                if curves:
                    figure = slices_figure(search, curves, label, along)
                    numbers = slices_numbers(search, curves, quantity, along)
                    written += style.save(figure, run / FIGURES / f"{name}_against_{variable}", numbers)
    return written
