"""Figures of searches that scan lifetimes: the limit on the rate at each of them, and the plane of mass and lifetime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbuilder.publish import style
from modelbuilder.publish.figure_numbers import Numbers
from modelbuilder.publish.figures import (
    METHOD_NAMES,
    FloatArray,
    LimitCurve,
    data_text,
    gaps_of,
    limit_curve_of,
    luminosity_of,
    mass_symbol,
)
from modelbuilder.scan.lifetimes import lifetime_of
from modelbuilder.scan.points import experiments_of
from modelbuilder.scan.store import FIGURES
from modelbuilder.scan.table import CTAU

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from modelbuilder.spec.load import Loaded

Rows = Sequence[Mapping[str, Any]]
MOST_CURVES = 8
"""Lifetimes that are drawn as curves, evenly chosen; the map and the table have all."""


def draw_lifetime_figures(search: Loaded, run: Path, rows: Rows, quantity: str, label: str, method: str) -> list[Path]:
    """The limit on a quantity against the mass at some lifetimes, and in the plane of mass and lifetime."""
    curves = curves_of(search, rows, quantity, method)
    if not any(np.isfinite(curve.observed).any() for _, curve in curves):
        return []  # no limit by this method
    stem = run / FIGURES / f"limit_{quantity}_{method}"
    written = style.save(curves_figure(search, curves, label, method), stem, _numbers(search, curves, quantity))
    if len(curves) > 1:
        plane = stem.with_name(f"{stem.name}_lifetimes")
        written += style.save(plane_figure(search, curves, label, method), plane, _numbers(search, curves, quantity))
    return written


def curves_of(search: Loaded, rows: Rows, quantity: str, method: str) -> list[tuple[float, LimitCurve]]:
    """The limits at each lifetime, cm, in rising order."""
    lifetime = lifetime_of(search)
    assert lifetime is not None
    spec = search.spec
    found = []
    for ctau in lifetime.values:
        chosen = [row for row in rows if row["method"] == method and row.get(CTAU) == ctau]
        level = spec.statistics.confidence_level
        found.append((ctau, limit_curve_of(chosen, spec.grid_variable, quantity, method, level, gaps_of(search))))
    return found


def text_of(ctau: float) -> str:
    """`10 um`, `1 mm`, `2.5 cm`, `1 m`, or `prompt`."""
    if ctau == 0.0:
        return "prompt"
    for unit, size in (("m", 100.0), ("cm", 1.0), ("mm", 0.1)):
        if ctau >= size * (1.0 - 1e-9):
            return f"{ctau / size:.4g} {unit}"
    return rf"{ctau / 1e-4:.4g} $\mu$m"


def curves_figure(search: Loaded, curves: Sequence[tuple[float, LimitCurve]], label: str, method: str) -> Figure:
    """Median expected limits as lines, observed ones as thin lines of the same colour, at up to MOST_CURVES lifetimes."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    known = [(ctau, curve) for ctau, curve in curves if np.isfinite(curve.observed).any()]
    places = sorted({round(x) for x in np.linspace(0, len(known) - 1, min(MOST_CURVES, len(known)))})
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.92, max(len(places), 2)))
    values = [part for _, curve in known for part in (curve.observed, curve.bands[2])]
    every = np.concatenate(values)
    every = every[np.isfinite(every) & (every > 0.0)]
    with style.house_style():
        figure, axes = plt.subplots()
        for colour, place in zip(colours, places, strict=False):
            ctau, curve = known[place]
            named = True
            for segment in curve.segments:
                main = curve.bands[2] if curve.has_band else curve.observed
                name = rf"$c\tau$ = {text_of(ctau)}" if ctau else "prompt"
                axes.plot(
                    curve.mass[segment], main[segment], color=colour, lw=1.6, label=name if named else None, zorder=2.2
                )
                if curve.has_band:
                    axes.plot(curve.mass[segment], curve.observed[segment], color=colour, lw=0.4, alpha=0.6)
                named = False
        axes.set_yscale("log")
        if every.size:
            low, high = np.quantile(every, [0.001, 0.97])
            axes.set_ylim(0.5 * float(low), 300.0 * float(high))
        axes.set_xlabel(f"{mass_symbol(search.spec.grid_variable)} [GeV]")
        axes.set_ylabel(label)
        with_band = any(curve.has_band for _, curve in known)
        what = "expected median, observed thin" if with_band else "observed"
        level = f"{100 * search.spec.statistics.confidence_level:g}% CL, {METHOD_NAMES[method]}: {what}"
        axes.legend(title=level, title_fontsize=11, loc="upper left", ncols=3, fontsize=10)
        style.label(axes, experiments_of(search), data_text(search.spec.data), luminosity_of(search))
    return figure


def plane_figure(search: Loaded, curves: Sequence[tuple[float, LimitCurve]], label: str, method: str) -> Figure:
    """Observed limit and expected median in the plane of mass and c tau; what has none stays white."""
    import matplotlib.pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    mass = curves[0][1].mass
    ctaus = np.array([ctau for ctau, _ in curves])
    parts = {"observed": np.array([_aligned(mass, curve, curve.observed) for _, curve in curves])}
    if any(curve.has_band for _, curve in curves):
        parts["expected median"] = np.array([_aligned(mass, curve, curve.bands[2]) for _, curve in curves])
    values = np.concatenate([part[np.isfinite(part) & (part > 0.0)] for part in parts.values()])
    norm = LogNorm(*np.quantile(values, [0.001, 0.95])) if len(values) else LogNorm(1.0, 10.0)
    edges = _edges_of_lifetimes(ctaus)
    with style.house_style():
        size = (1.0 + 5.2 * len(parts), 4.6)
        figure, every = plt.subplots(1, len(parts), figsize=size, squeeze=False, sharey=True, layout="constrained")
        for axes, (name, part) in zip(every[0], parts.items(), strict=True):
            for segment in curves[0][1].segments:
                cells = _edges_of_masses(mass[segment], gaps_of(search))
                axes.pcolormesh(
                    cells, edges, part[:, segment], norm=norm, cmap="viridis", rasterized=True, edgecolors="none"
                )
            axes.set_yscale("log")
            axes.set_xlabel(f"{mass_symbol(search.spec.grid_variable)} [GeV]")
            axes.text(0.0, -0.12, name, transform=axes.transAxes, ha="left", va="top", fontsize=13)
        prompt = ", lowest row prompt" if ctaus[0] == 0.0 else ""
        every[0][0].set_ylabel(rf"$c\tau$ [cm]{prompt}")
        bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=list(every[0]), extend="both", pad=0.01)
        level = f"{100 * search.spec.statistics.confidence_level:g}% CL, {METHOD_NAMES[method]}"
        bar.set_label(f"upper limit on {label}\n{level}", fontsize=12)
        style.label(every[0][0], experiments_of(search), data_text(search.spec.data), "")
        every[0][-1].set_title(luminosity_of(search), fontsize=12, loc="right", pad=6)
    return figure


def _aligned(mass: FloatArray, curve: LimitCurve, values: FloatArray) -> FloatArray:
    """Values at the masses of another curve, NaN where this one has none."""
    own = dict(zip(curve.mass.tolist(), values.tolist(), strict=True))
    return np.array([own.get(m, np.nan) for m in mass.tolist()])


def _edges_of_masses(mass: FloatArray, gaps: Sequence[tuple[float, float]]) -> FloatArray:
    """In the middle between two masses, and as far beyond the first and the last one, but not into a gap."""
    if len(mass) == 1:  # one per cent, so that it can be seen
        return np.array([0.995 * mass[0], 1.005 * mass[0]])
    middles = 0.5 * (mass[1:] + mass[:-1])
    first = max([2.0 * mass[0] - middles[0], *(high for _, high in gaps if high <= mass[0])])
    last = min([2.0 * mass[-1] - middles[-1], *(low for low, _ in gaps if low >= mass[-1])])
    return np.concatenate([[first], middles, [last]])


def _edges_of_lifetimes(ctaus: FloatArray) -> FloatArray:
    """In the middle of the logarithms; a prompt decay lies a row below the shortest of the others."""
    positive = ctaus[ctaus > 0.0]
    if not positive.size:
        return np.array([0.1, 1.0])
    first = positive[1] / positive[0] if len(positive) > 1 else 10.0
    known = positive if ctaus[0] > 0.0 else np.append(positive[0] / first, positive)
    if len(known) == 1:
        return np.array([known[0] / 3.0, known[0] * 3.0])
    middles = np.sqrt(known[1:] * known[:-1])
    return np.concatenate([[known[0] ** 2 / middles[0]], middles, [known[-1] ** 2 / middles[-1]]])


def _numbers(search: Loaded, curves: Sequence[tuple[float, LimitCurve]], quantity: str) -> Numbers:
    """One row for each mass and lifetime."""
    return {
        f"{search.spec.grid_variable}_gev": np.concatenate([curve.mass for _, curve in curves]),
        CTAU: np.concatenate([np.full(len(curve.mass), ctau) for ctau, curve in curves]),
        f"{quantity}_observed": np.concatenate([curve.observed for _, curve in curves]),
        f"{quantity}_expected": np.concatenate([curve.bands[2] for _, curve in curves]),
    }
