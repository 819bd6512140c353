"""Figures of a run. Each is computed first, as plain arrays, and then drawn without arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import RunDirectoryError
from modelbuilder.histograms.templates import axis_of, from_uhi_json
from modelbuilder.histograms.typeset import formula, particle_formula
from modelbuilder.inference import PyhfLikelihood
from modelbuilder.publish import style
from modelbuilder.publish.figure_numbers import Numbers, unit_ending, write_numbers
from modelbuilder.scan.lifetimes import lifetime_of
from modelbuilder.scan.points import experiments_of, searches_at, searches_of
from modelbuilder.scan.store import FIGURES, TEMPLATES, WORKSPACES
from modelbuilder.scan.table import BANDS, CTAU, UPPER_EDGE
from modelbuilder.spec.combination import DataOfCombination
from modelbuilder.spec.comparisons import ComparedCurve, MuonMoment
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.interpretations import UNIT_SUFFIXES, Interpretation
from modelbuilder.spec.load import Loaded, LoadedCombination, LoadedSearch
from modelbuilder.spec.rates import Rate
from modelbuilder.spec.search import SIGNAL, AsimovData, Data, PseudoData, SearchSpec, SpuriousSignal
from modelbuilder.theory.muon_moment import Difference, coupling_band
from modelbuilder.workspace.files import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from modelbuilder.inference.results import ChannelPrediction, Pull
    from modelbuilder.spec.search import SecondObservable

FloatArray = npt.NDArray[np.float64]
VISIBLE = 0.005
FARTHEST = 100.0
"""An axis grows by at most this factor for the sake of a curve that is compared."""
DENSE = 1000
"""With more masses the observed limit is a thin line below the median, which it would cover."""
METHOD_NAMES = {
    "profile-likelihood": "profile likelihood (CL$_{s+b}$)",
    "cls": "CL$_s$",
    "feldman-cousins": "Feldman-Cousins",
    "bayesian": "Bayesian",
}


@dataclass(frozen=True, kw_only=True)
class LimitCurve:
    """Limits along the mass, for one method. Arrays of shape (n_points,); failed points are NaN.

    segments: index ranges without a gap of the grid inside, drawn as separate lines.
    upper_edges: shape (2, n_points): of what is excluded, observed and expected; NaN where it has none.
    has_band: whether the method has expected limits at all.
    """

    method: str
    confidence_level: float
    mass: FloatArray
    observed: FloatArray
    bands: FloatArray  # shape (5, n_points): -2, -1, 0, +1, +2 sigma
    segments: tuple[slice, ...]
    upper_edges: FloatArray

    @property
    def has_band(self) -> bool:
        return bool(np.isfinite(self.bands).any())


def limit_curve(search: Loaded, rows: Sequence[Mapping[str, Any]], quantity: str, method: str) -> LimitCurve:
    """The limits on `quantity` (a column name without its band) from the rows of a run.

    Where lifetimes are scanned, those on a coupling at the lifetime that it gives itself.
    """
    chosen = [row for row in rows if row["method"] == method and row.get(CTAU) is None]
    confidence = search.spec.statistics.confidence_level
    return limit_curve_of(chosen, search.spec.grid_variable, quantity, method, confidence, gaps_of(search))


def limit_curves(
    search: Loaded, rows: Sequence[Mapping[str, Any]], quantity: str, method: str
) -> tuple[LimitCurve, ...]:
    """The limits by one method, and after it those by the others."""
    names = (method, *(name for name in search.spec.statistics.methods if name != method))
    return tuple(limit_curve(search, rows, quantity, name) for name in names)


def limit_curve_of(
    chosen: Sequence[Mapping[str, Any]],
    variable: str,
    quantity: str,
    method: str,
    confidence_level: float,
    gaps: Sequence[tuple[float, float]],
) -> LimitCurve:
    """The limits of some rows along one of their masses, which rises."""

    def column(name: str) -> FloatArray:
        return np.array([math.nan if row.get(name) is None else float(row[name]) for row in chosen])

    mass = column(f"{variable}_gev")
    cuts = [
        i + 1
        for i, (a, b) in enumerate(itertools.pairwise(mass.tolist()))
        if any(a <= lo and hi <= b for lo, hi in gaps)
    ]
    limits = [0, *cuts, len(mass)]
    return LimitCurve(
        method=method,
        confidence_level=confidence_level,
        mass=mass,
        observed=column(f"{quantity}_observed"),
        bands=np.array([column(f"{quantity}_{band}") for band in BANDS]),
        segments=tuple(slice(a, b) for a, b in itertools.pairwise(limits)),
        upper_edges=np.array([column(f"{quantity}_{band}_{UPPER_EDGE}") for band in ("observed", "expected")]),
    )


def limit_numbers(curve: LimitCurve, others: Sequence[LimitCurve], variable: str, quantity: str) -> Numbers:
    """What a figure of limits draws, in the columns of `limits.csv`; of the other methods, with the method behind."""
    numbers: dict[str, FloatArray] = {f"{variable}_gev": curve.mass, f"{quantity}_observed": curve.observed}
    if curve.has_band:
        numbers |= {f"{quantity}_{band}": values for band, values in zip(BANDS, curve.bands, strict=True)}
    for band, values in zip(("observed", "expected"), curve.upper_edges, strict=True):
        if np.isfinite(values).any():
            numbers[f"{quantity}_{band}_{UPPER_EDGE}"] = values
    for other in others:
        band, values = ("expected", other.bands[2]) if other.has_band else ("observed", other.observed)
        numbers[f"{quantity}_{band} ({other.method})"] = values
    return numbers


def floor_of(curves: Sequence[LimitCurve]) -> float:
    """The lower end of a logarithmic axis: half of the smallest limit that is not zero."""
    values = np.concatenate([np.concatenate([curve.observed, curve.bands.ravel()]) for curve in curves])
    medians = np.concatenate([curve.bands[2] if curve.has_band else curve.observed for curve in curves])
    positive = values[np.isfinite(values) & (values > 0.0)]
    smallest_median = float(np.nanmin(medians[medians > 0.0])) if np.any(medians > 0.0) else 1.0
    return max(0.5 * float(positive.min()), 0.2 * smallest_median) if positive.size else 0.1


def is_logarithmic(mass: FloatArray) -> bool:
    """Whether the axis of the mass is: where half of the hypotheses lie below a tenth of the largest."""
    return float(np.median(mass)) < 0.1 * float(mass.max())


def ceiling_of(curve: LimitCurve) -> float:
    """The upper end of a logarithmic axis, with room for the legend above the highest band, limit or upper edge."""
    highest = curve.bands[4] if curve.has_band else curve.observed
    values = np.concatenate([highest, curve.upper_edges.ravel()])
    if not np.isfinite(values).any():
        return 1.0
    top = float(np.nanmax(values))
    decades = math.log10(top / floor_of([curve])) if np.isfinite(curve.upper_edges).any() else 0.0
    return top * max(12.0, math.pow(10.0, 0.5 * decades))


def draw_limits(axes: Axes, curve: LimitCurve, others: Sequence[LimitCurve], floor: float) -> None:
    """Bands, median and observed limit of one method, and the median of others, or their observed limit where they have
    no band; above them the upper edges of what is excluded. Values below `floor` lie on it.
    """
    for number, segment in enumerate(curve.segments):
        named = number == 0
        mass = curve.mass[segment]
        m2, m1, median, p1, p2 = np.maximum(curve.bands[:, segment], floor)
        if curve.has_band:
            for low, high, colour, n in ((m2, p2, style.TWO_SIGMA, 2), (m1, p1, style.ONE_SIGMA, 1)):
                label = rf"expected $\pm {n}\sigma$" if named else None
                axes.fill_between(mass, low, high, color=colour, lw=0, label=label)
            axes.plot(mass, median, color="black", ls="--", zorder=2.5, label="expected median" if named else None)
        observed = np.maximum(curve.observed[segment], floor)
        marker = "o" if len(curve.mass) <= 60 else None
        width, grey = (1.2, "black") if len(curve.mass) <= DENSE else (0.3, "0.25")
        axes.plot(mass, observed, color=grey, marker=marker, ms=3.5, lw=width, label="observed" if named else None)
        if np.isfinite(curve.upper_edges).any():
            seen, median = curve.upper_edges[:, segment]
            axes.plot(mass, median, color="black", ls="--")
            axes.plot(mass, seen, color="black", marker=marker, ms=3.5, lw=1.2)
            top = np.where(np.isfinite(seen), seen, ceiling_of(curve))  # nothing reopens where there is no edge
            label = "excluded" if named else None
            known = np.isfinite(observed)
            axes.fill_between(mass, observed, top, where=known, color="0.88", lw=0, zorder=0.5, label=label)
        for colour, dashes, other in zip(style.COLOURS[2:], (":", "-.", (0, (5, 1))), others, strict=False):
            what = "expected median" if other.has_band else "observed"
            name = f"{what}, {METHOD_NAMES[other.method]}"
            values = np.maximum((other.bands[2] if other.has_band else other.observed)[segment], floor)
            axes.plot(mass, values, color=colour, ls=dashes, lw=1.8, label=name if named else None)
    with np.errstate(invalid="ignore"):
        below = curve.observed < floor  # NaN, a failed point, is not below
    if below.any():
        axes.plot(curve.mass[below], np.full(int(below.sum()), floor * 1.03), "v", color="black", ms=5, clip_on=False,
                  label="observed below the axis")  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(bottom=floor)


@dataclass(frozen=True, kw_only=True)
class ComparedWith:
    """A curve, or a band where `high` is given, in the unit of the limit. Arrays of one shape, NaN where there is none."""

    title: str
    mass: FloatArray
    low: FloatArray
    high: FloatArray | None


def compared_curve(comparison: ComparedCurve | MuonMoment, mass: FloatArray) -> ComparedWith:
    """What a spec asks to be compared with. mass: of the limit, GeV, between whose ends a loop is computed."""
    if isinstance(comparison, MuonMoment):
        dense = np.geomspace(float(mass.min()), float(mass.max()), 200)
        difference = Difference(value=comparison.difference, error=comparison.error, source=comparison.source)
        bands = [
            coupling_band(comparison.muon_moment, m, n_sigma=comparison.sigma, difference=difference)
            for m in dense.tolist()
        ]
        low, high = np.array(bands).T
        return ComparedWith(title=comparison.title, mass=dense, low=low, high=high)
    first, *others = (np.array(column) for column in comparison.points())
    return ComparedWith(title=comparison.title, mass=first, low=others[0], high=others[1] if len(others) > 1 else None)


def compared_curves(search: Loaded, quantity: str, mass: FloatArray) -> list[ComparedWith]:
    """All that the limits on a quantity are compared with. mass: as of `compared_curve`."""
    return [compared_curve(one, mass) for one in search.spec.comparisons.get(quantity, [])]


def comparison_numbers(compared: Sequence[ComparedWith], variable: str, quantity: str) -> Numbers:
    """All curves one after the other, each row with the title of its curve; a curve that is no band has `low` only."""

    def joined(columns: list[FloatArray]) -> FloatArray:
        return np.concatenate(columns)

    return {
        "curve": [one.title for one in compared for _ in one.mass],
        f"{variable}_gev": joined([one.mass for one in compared]),
        f"{quantity}_low": joined([one.low for one in compared]),
        f"{quantity}_high": joined(
            [np.full(len(one.mass), math.nan) if one.high is None else one.high for one in compared]
        ),
    }


def draw_comparisons(axes: Axes, compared: Sequence[ComparedWith]) -> tuple[float, float]:
    """Curves as lines, bands with hatches; returns the smallest and the largest value above zero."""
    values = [1e300, 0.0]
    for number, one in enumerate(compared):
        colour = style.COLOURS[(4 + number) % len(style.COLOURS)]
        if one.high is None:
            axes.plot(one.mass, one.low, color=colour, lw=1.8, label=one.title)
        else:
            axes.fill_between(one.mass, one.low, one.high, facecolor="none", edgecolor=colour, hatch="////", lw=1.0,
                              label=one.title)  # fmt: skip
        every = np.concatenate([one.low, one.low if one.high is None else one.high])
        positive = every[np.isfinite(every) & (every > 0.0)]
        if positive.size:
            values = [min(values[0], float(positive.min())), max(values[1], float(positive.max()))]
    return values[0], values[1]


def limit_figure(search: Loaded, rows: Sequence[Mapping[str, Any]], quantity: str, ylabel: str, method: str) -> Figure:
    """The limit on one quantity by one method against the mass, with bands; the other methods by their medians."""
    import matplotlib.pyplot as plt

    spec = search.spec
    curve, *others = limit_curves(search, rows, quantity, method)
    with style.house_style():
        figure, axes = plt.subplots()
        floor, ceiling = floor_of([curve]), ceiling_of(curve)
        draw_limits(axes, curve, others, floor)
        compared = compared_curves(search, quantity, curve.mass)
        lowest, highest = draw_comparisons(axes, compared)
        axes.set_ylim(
            max(min(floor, 0.5 * lowest), floor / FARTHEST), min(max(ceiling, 12.0 * highest), ceiling * FARTHEST)
        )
        low, high = float(curve.mass.min()), float(curve.mass.max())
        if is_logarithmic(curve.mass):
            axes.set_xscale("log")
            axes.set_xlim(low / 1.05, high * 1.05)
        else:
            room = 0.01 * (high - low) if high > low else 0.1 * high
            axes.set_xlim(low - room, high + room)
        for edge in _channel_edges(search):
            axes.axvline(edge, color="0.5", lw=1, ls=(0, (1, 3)))
        axes.set_xlabel(f"{mass_symbol(spec.grid_variable)} [GeV]")
        axes.set_ylabel(f"{ylabel}")
        level = f"{100 * curve.confidence_level:g}% CL upper limit, {METHOD_NAMES[curve.method]}"
        axes.legend(title=level, title_fontsize=11, loc="upper left", ncols=2)
        style.label(axes, experiments_of(search), data_text(spec.data), luminosity_of(search))
    return figure


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """A window before or after the fit. Events per bin, shape (n_bins,).

    parts: yields by sample, from the bottom of the stack.    signal: on top of it, or None.
    stdevs: of the total, or None before the fit, and where bins of a second observable were added.
    fitted: whether this is after the fit.
    """

    edges: FloatArray
    observed: FloatArray
    parts: Mapping[str, FloatArray]
    signal: FloatArray | None
    signal_text: str
    total: FloatArray
    stdevs: FloatArray | None
    fitted: bool = False

    def combined(self, take: Callable[[FloatArray], FloatArray]) -> Spectrum:
        """The spectrum with `take` applied to everything that is counted; without the uncertainty of the total."""
        return replace(
            self,
            observed=take(self.observed),
            parts={name: take(values) for name, values in self.parts.items()},
            signal=None if self.signal is None else take(self.signal),
            total=take(self.total),
            stdevs=None,
        )

    @property
    def n_second(self) -> int:
        """Bins of the second observable, 1 without one; they run fastest."""
        return len(self.observed) // (len(self.edges) - 1)

    def projection(self) -> Spectrum:
        """All bins of the second observable together."""
        if self.n_second == 1:
            return self
        return self.combined(lambda values: values.reshape(-1, self.n_second).sum(axis=1))

    def slice(self, index: int) -> Spectrum:
        """One bin of the second observable."""
        found = self.combined(lambda values: values.reshape(-1, self.n_second)[:, index])
        stdevs = None if self.stdevs is None else self.stdevs.reshape(-1, self.n_second)[:, index]
        return replace(found, stdevs=stdevs)


def _signal_text(is_limit: bool, rate: Rate, value_of_rate: Any) -> str:
    symbol = {"cross section": "", "branching fraction": "$B$ = ", "ratio": "ratio "}[rate.kind]
    value = "" if value_of_rate is None else f", {symbol}{float(value_of_rate):.3g} {rate.unit}".rstrip()
    return f"signal{' at expected limit' if is_limit else ''}{value}"


def prefit_spectrum(search: LoadedSearch, run: Path, row: Mapping[str, Any], within: str = "") -> Spectrum:
    """The templates of a point, with the signal at its expected limit.

    within: the name of the search in a combination whose run and row these are; its channel is shown.
    """
    templates = _templates(run, str(row["point"]), within)
    backgrounds = {name: templates[name].values().ravel() for name in search.spec.backgrounds if name in templates}
    mu = float(row.get("mu_expected") or 1.0)
    channel = _channel(run, row, within)
    signal = mu * np.array(next(sample["data"] for sample in channel["samples"] if sample["name"] == SIGNAL))
    expected = row.get(f"{search.spec.rate.column}_expected")
    limit = expected or row.get(search.spec.rate.reference)
    named: dict[str, FloatArray] = {}
    for name, values in backgrounds.items():  # two backgrounds of one title are one part
        title = search.spec.backgrounds[name].title
        named[title] = named.get(title, 0.0) + values
    return Spectrum(
        edges=templates[SIGNAL].axes[0].edges,
        observed=templates["observation"].values().ravel(),
        parts=named,
        signal=signal,
        signal_text=_signal_text(expected is not None or row.get("mu_expected") is not None, search.spec.rate, limit),
        total=np.sum(list(backgrounds.values()), axis=0),
        stdevs=None,
    )


def postfit_spectrum(search: LoadedSearch, run: Path, row: Mapping[str, Any], within: str = "") -> tuple[Spectrum, Any]:
    """The best fit of a point, and its pulls. within: as of `prefit_spectrum`."""
    from modelbuilder.inference import diagnostics

    name = str(row["point"])
    likelihood = PyhfLikelihood(read_json(run / WORKSPACES / f"{name}.json"))
    fit = diagnostics.fit_with_uncertainties(likelihood)
    channel = _channel(run, row, within)["name"]
    (prediction,) = (found for found in diagnostics.predict(likelihood, fit) if found.channel == channel)
    edges = _templates(run, name, within)[SIGNAL].axes[0].edges
    return fitted_spectrum(search, edges, prediction), diagnostics.pulls(likelihood, fit)


def fitted_spectrum(search: LoadedSearch, edges: FloatArray, prediction: ChannelPrediction) -> Spectrum:
    """The yields at a best fit, with samples of one title as one part. edges: of the first observable."""
    parts: dict[str, FloatArray] = {}
    signal = np.zeros(len(prediction.total))
    for sample in prediction.samples:
        if sample.sample == SIGNAL:
            signal = np.array(sample.values)
            continue
        title = _title_of(search.spec, sample.sample)
        parts[title] = parts.get(title, np.zeros(len(signal))) + np.array(sample.values)
    return Spectrum(
        edges=edges,
        observed=np.array(prediction.observed),
        parts=parts,
        signal=signal,
        signal_text=f"signal, fitted: {signal.sum():.3g} events",
        total=np.array(prediction.total),
        stdevs=np.array(prediction.total_stdevs),
        fitted=True,
    )


def spectrum_figure(
    search: LoadedSearch, spectrum: Spectrum, row: Mapping[str, Any], channel: str | None = None
) -> Figure:
    """Stack of the samples, data points, and below them the pulls of the data. channel: of the search; that of the row."""
    import matplotlib.pyplot as plt
    import mplhep

    spec = search.spec
    axis = axis_of(spec.line(channel or str(row["channel"])).observable)
    with style.house_style():
        figure, (axes, below) = plt.subplots(2, 1, sharex=True, height_ratios=(3, 1), figsize=(7, 6.2))
        figure.subplots_adjust(hspace=0.06)
        edges = spectrum.edges
        stack = visible_parts(spectrum)
        colours = style.BACKGROUNDS[len(stack) - 1 :: -1]
        mplhep.histplot(
            [values for _, values in stack], edges, ax=axes, stack=True, histtype="fill",
            label=[process_text(name) for name, _ in stack], color=colours, alpha=0.75, edges=False,
        )  # fmt: skip
        if spectrum.signal is not None:
            mplhep.histplot(
                spectrum.signal, edges, ax=axes, color=style.SIGNAL, lw=2, label=spectrum.signal_text, yerr=False,
                edges=False,
            )  # fmt: skip
        if spectrum.stdevs is not None:
            axes.stairs(
                spectrum.total + spectrum.stdevs, edges, baseline=spectrum.total - spectrum.stdevs, fill=True,
                hatch="////", facecolor="none", edgecolor="0.3", lw=0, label="fit uncertainty",
            )  # fmt: skip
        mplhep.histplot(
            spectrum.observed, edges, ax=axes, histtype="errorbar", color="black", yerr=np.sqrt(spectrum.observed),
            label=_data_name(spec.data), ms=6,
        )  # fmt: skip
        centres = 0.5 * (edges[1:] + edges[:-1])
        below.axhline(0.0, color="0.4", lw=1)
        below.bar(centres, pulls_of(spectrum), width=np.diff(edges), color="0.55")
        below.set_ylim(-3.9, 3.9)
        below.set_ylabel("pull")
        below.set_xlabel(f"{axis.label} [{axis.unit.replace('GeV^2', 'GeV$^2$')}]")
        axes.set_ylabel("events per bin" if len(centres) > 1 else "events in the window")
        axes.set_xlabel("")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0.0, 1.5 * float(np.max(np.append(spectrum.observed + np.sqrt(spectrum.observed), 1.0))))
        when = "after the fit" if spectrum.fitted else "before the fit"
        hypothesis = ", ".join(f"{mass_symbol(name)} = {row[f'{name}_gev']:g} GeV" for name in spec.grid_variables)
        axes.legend(
            title=f"{hypothesis}, {when}",
            title_fontsize=11,
            fontsize=10.5,
            ncols=2,
            loc="upper left",
            columnspacing=0.8,
            handlelength=1.5,
            framealpha=0.0,
        )
        style.label(axes, spec.experiment.title, data_text(spec.data), luminosity_text(spec))
    return figure


def spectrum_numbers(search: LoadedSearch, spectrum: Spectrum, channel: str) -> Numbers:
    """Bins, and what a figure shows of each: data, samples, signal, total with its uncertainty after the fit, pull.

    With a second observable all its bins, as the slices show them; their sums are the projection.
    """
    line = search.spec.line(channel)
    ending = unit_ending(axis_of(line.observable).unit)
    n_second = spectrum.n_second
    numbers: dict[str, Any] = {
        f"low{ending}": np.repeat(spectrum.edges[:-1], n_second),
        f"high{ending}": np.repeat(spectrum.edges[1:], n_second),
    }
    if n_second > 1:
        assert line.second is not None
        edges, unit = second_edges(line.second, n_second)
        n_first = len(spectrum.edges) - 1
        numbers[f"second_low{unit_ending(unit)}"] = np.tile(edges[:-1], n_first)
        numbers[f"second_high{unit_ending(unit)}"] = np.tile(edges[1:], n_first)
    numbers["observed"] = spectrum.observed
    numbers |= {f"background: {name}": values for name, values in spectrum.parts.items()}
    if spectrum.signal is not None:
        numbers["signal"] = spectrum.signal
    numbers["total"] = spectrum.total
    if spectrum.stdevs is not None:
        numbers["total_stdev"] = spectrum.stdevs
    return {**numbers, "pull": pulls_of(spectrum)}


def second_edges(second: SecondObservable, number: int) -> tuple[FloatArray, str]:
    """Edges of the bins of a second observable, in the unit of a figure: angles are in degrees."""
    unit = axis_of(second.observable).unit
    unit, factor = ("deg", 180.0 / math.pi) if unit == "rad" else (unit, 1.0)
    return factor * np.linspace(*second.limits, number + 1), unit


def pull_numbers(pulls: Sequence[Pull]) -> Numbers:
    """Of the parameters of a fit."""
    return {
        "parameter": [pull.parameter for pull in pulls],
        "pull": [pull.pull for pull in pulls],
        "uncertainty": [pull.uncertainty for pull in pulls],
    }


def slices_figure(search: LoadedSearch, spectrum: Spectrum, row: Mapping[str, Any]) -> Figure:
    """The first observable in each bin of the second one: stack of the samples, signal and data."""
    import matplotlib.pyplot as plt
    import mplhep

    spec = search.spec
    channel = spec.line(str(row["channel"]))
    assert channel.second is not None
    axis, second = axis_of(channel.observable), axis_of(channel.second.observable)
    number = spectrum.n_second
    columns = min(number, 3)
    rows = -(-number // columns)
    names = [name for name, _ in visible_parts(spectrum)]
    colours = style.BACKGROUNDS[len(names) - 1 :: -1]
    edges, unit = second_edges(channel.second, number)
    unit = _unit_text(unit)
    with style.house_style():
        height = 1.3 + 2.9 * rows
        figure, grid = plt.subplots(rows, columns, sharex=True, squeeze=False, figsize=(1.0 + 3.8 * columns, height))
        figure.subplots_adjust(hspace=0.08, wspace=0.2, bottom=0.65 / height, top=1.0 - 0.65 / height)
        for index, axes in enumerate(grid.ravel()):
            if index >= number:
                axes.set_visible(False)
                continue
            part = spectrum.slice(index)
            mplhep.histplot(
                [part.parts[name] for name in names], part.edges, ax=axes, stack=True, histtype="fill",
                label=[process_text(name) for name in names], color=colours, alpha=0.75, edges=False,
            )  # fmt: skip
            if part.signal is not None:
                mplhep.histplot(
                    part.signal, part.edges, ax=axes, color=style.SIGNAL, lw=1.5, label=part.signal_text, yerr=False,
                    edges=False,
                )  # fmt: skip
            mplhep.histplot(
                part.observed, part.edges, ax=axes, histtype="errorbar", color="black", yerr=np.sqrt(part.observed),
                label=_data_name(spec.data), ms=3,
            )  # fmt: skip
            axes.set_xlim(part.edges[0], part.edges[-1])
            axes.set_ylim(0.0, 1.35 * float(np.max(np.append(part.observed + np.sqrt(part.observed), 1.0))))
            axes.set_xlabel("")
            axes.set_ylabel("")
            axes.tick_params(labelsize=10)
            axes.text(
                0.04, 0.94, f"{edges[index]:.4g} to {edges[index + 1]:.4g} {unit}".strip(), transform=axes.transAxes,
                fontsize=11, va="top",
            )  # fmt: skip
        when = "after the fit" if spectrum.fitted else "before the fit"
        mass = row[f"{spec.grid_variable}_gev"]
        figure.supxlabel(f"{axis.label} [{_unit_text(axis.unit)}]", fontsize=14, y=0.0)
        figure.supylabel("events per bin", fontsize=14, x=0.06 if columns > 2 else 0.02)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, labels, title=f"{second.label} in slices; {mass_symbol(spec.grid_variable)} = {mass:g} GeV, {when}",
            title_fontsize=11, fontsize=10.5, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0 - 0.3 / height), frameon=False,
        )  # fmt: skip
        style.label(grid[0, 0], spec.experiment.title, data_text(spec.data) if columns > 1 else "", "")
        style.label(grid[0, columns - 1], "", "", luminosity_text(spec))
    return figure


def _unit_text(unit: str) -> str:
    return "" if unit == "1" else unit.replace("GeV^2", "GeV$^2$")


def visible_parts(spectrum: Spectrum) -> list[tuple[str, FloatArray]]:
    """The samples that a reader could see, the smallest first: more than 0.5 % of the total in some bin."""
    total = np.maximum(spectrum.total, 1e-12)
    seen = [(name, values) for name, values in spectrum.parts.items() if np.max(values / total) > VISIBLE]
    return sorted(seen, key=lambda item: float(item[1].sum()))


def pulls_of(spectrum: Spectrum) -> FloatArray:
    """(observed - expected) / sqrt(expected) in each bin; 0 where nothing is expected."""
    total = spectrum.total
    return np.where(total > 0.0, (spectrum.observed - total) / np.sqrt(np.maximum(total, 1e-12)), 0.0)


def draw_limit_figures(search: Loaded, run: Path, rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """The limits on the cross section and on each coupling by each method, as PDF and PNG in the run's `figures/`,
    with the numbers of each as CSV, and with the curves that they are compared with.

    Without a model of the signal also those on efficiency times cross section, which need none.
    """
    if not any(row["status"] == "ok" for row in rows):
        msg = f"{run}: no point has a limit; there is nothing to draw"
        raise RunDirectoryError(msg)
    if isinstance(search, LoadedSearch) and search.spec.in_plane:
        from modelbuilder.publish.plane import draw_plane_figures

        return draw_plane_figures(search, run, rows)
    written = []
    variable = search.spec.grid_variable
    for quantity, ylabel in limited_quantities(search).items():
        if all(row.get(f"{quantity}_{band}") is None for row in rows for band in ("observed", *BANDS)):
            continue  # nothing of it is excluded anywhere
        for method in search.spec.statistics.methods:
            if at_lifetimes(search, quantity):
                from modelbuilder.publish.lifetimes import draw_lifetime_figures

                written += draw_lifetime_figures(search, run, rows, quantity, ylabel, method)
                continue
            figure = limit_figure(search, rows, quantity, ylabel, method)
            curve, *others = limit_curves(search, rows, quantity, method)
            path = run / FIGURES / f"limit_{quantity}_{method}"
            written += style.save(figure, path, limit_numbers(curve, others, variable, quantity))
        compared = [] if at_lifetimes(search, quantity) else compared_curves(search, quantity, curve.mass)
        if compared:
            path = run / FIGURES / f"limit_{quantity}_comparisons.csv"
            written.append(write_numbers(path, comparison_numbers(compared, variable, quantity)))
    return written


def at_lifetimes(search: Loaded, quantity: str) -> bool:
    """Whether limits on a quantity stand at each lifetime that is scanned, not at one of its own."""
    if lifetime_of(search) is None:
        return False
    first = search.spec if isinstance(search, LoadedSearch) else next(iter(search.searches.values())).spec
    one = first.interpretations.get(quantity)
    return one is None or one.theory.lifetime is None


def draw_point_figures(search: Loaded, run: Path, row: Mapping[str, Any]) -> list[Path]:
    """Templates and post-fit spectrum of one point, in a combination of each search that takes part, and the pulls."""
    from modelbuilder.inference import diagnostics

    if isinstance(search, LoadedSearch) and search.spec.in_plane:
        msg = f"{run}: its windows in the plane are one number each, without a spectrum to draw; see templates/windows.csv"
        raise RunDirectoryError(msg)
    name = str(row["point"])
    folder = run / FIGURES
    point = next(point for point in search.points if point.name == name)
    written: list[Path] = []
    for within, own in searches_at(search, point).items():
        one = searches_of(search)[within]
        end = f"{name}_{within}" if within else name
        fitted, pulls = postfit_spectrum(one, run, row, within)
        for kind, spectrum in (("templates", prefit_spectrum(one, run, row, within)), ("postfit", fitted)):
            whole = spectrum.projection()
            figure = spectrum_figure(one, whole, row, own.channel)
            written += style.save(figure, folder / f"{kind}_{end}", spectrum_numbers(one, whole, own.channel))
            if spectrum.n_second > 1:
                numbers = spectrum_numbers(one, spectrum, own.channel)
                written += style.save(slices_figure(one, spectrum, row), folder / f"{kind}_{end}_slices", numbers)
    figure = diagnostics.draw_pulls(pulls)
    with style.house_style():
        style.label(figure.axes[0], experiments_of(search), data_text(search.spec.data), "")
    written += style.save(figure, folder / f"pulls_{name}", pull_numbers(pulls))
    return written


def limited_quantities(search: Loaded) -> dict[str, str]:
    """The columns that are drawn, and what stands at their axes."""
    spec = search.spec
    found = {}
    if isinstance(spec, SearchSpec):
        found[spec.rate.column] = _rate_symbol(spec)
        if not spec.interpretations and spec.rate.kind == "cross section":
            found["visible_cross_section_fb"] = r"$\varepsilon\times\sigma$ [fb]"
        return found | {name: _coupling_symbol(name, one) for name, one in spec.interpretations.items()}
    first = next(iter(spec.searches.values()))
    if spec.has_one_rate:
        found[first.rate.column] = _rate_symbol(first)
    names = spec.shared_interpretations
    return found | {name: _coupling_symbol(name, first.interpretations[name]) for name in names}


def data_text(data: Data | DataOfCombination) -> str:
    """For the face of every figure: whether these are measured data."""
    if isinstance(data, PseudoData):
        return f"simulated, pseudo-data (seed {data.seed})"
    return "simulated, Asimov data" if isinstance(data, AsimovData) else "observed data"


def luminosity_of(search: Loaded) -> str:
    """Of a search; nothing for a combination, since searches of one experiment may share their data."""
    return luminosity_text(search.spec) if isinstance(search, LoadedSearch) else ""


def luminosity_text(spec: SearchSpec) -> str:
    """`445 pb^-1`, `50 ab^-1`: in the unit that gives a number between 1 and 1000."""
    value, unit = spec.luminosity.value, "fb"
    if value < 1.0:
        value, unit = value * 1e3, "pb"
    elif value >= 1e3:
        value, unit = value * 1e-3, "ab"
    return rf"$\int\;L\,dt$ = {value:.4g} {unit}$^{{-1}}$"


def _title_of(spec: SearchSpec, sample: str) -> str:
    """The title of the background that a sample of a workspace belongs to."""
    systematic = spec.systematics.get(sample)
    if isinstance(systematic, SpuriousSignal):
        sample = systematic.of
    owner = max((name for name in spec.backgrounds if sample.startswith(name)), key=len, default=None)
    return sample if owner is None else spec.backgrounds[owner].title


def process_text(text: str) -> str:
    """`e+ e- -> tau+ tau-, pion taken for muon` with what is a process as a formula, and other text as it is."""
    parts = text.split(", ")
    return ", ".join(formula(part) if "->" in part else part for part in parts)


def _data_name(data: Data) -> str:
    return {"pseudo": "pseudo-data", "asimov": "Asimov data"}.get(data.kind, "data")


def mass_symbol(variable: str) -> str:
    """For an axis: `$m_{A'}$` for m_Ap."""
    name = variable.removeprefix("m_")
    return rf"$m_{{{particle_formula(name) or name}}}$"


def _rate_symbol(spec: SearchSpec) -> str:
    """Of the production, times the branching fractions of the decays that are written; in short if they are many."""
    production, *decays = (step.strip() for step in spec.signal.process.split(","))
    if spec.rate.kind == "ratio":
        return "ratio of branching fractions"
    if spec.signal.produced is not None:
        known = spec.signal.branching_fractions
        parent = spec.signal.produced.of
        own = [d for d in decays[[d.split("->")[0].strip() for d in decays].index(parent) :] if d not in known]
        return r"$\,\times\,$".join(rf"$B({formula(decay).strip('$')})$" for decay in own[:3])
    if len(decays) > 1:
        return r"$\sigma\times B$ [fb]"
    factors = [rf"\times B({formula(decay).strip('$')})" for decay in decays]
    return rf"$\sigma({formula(production).strip('$')}){''.join(factors)}$ [fb]"


def _coupling_symbol(name: str, interpretation: Interpretation) -> str:
    """That of the model; with what the name of the column adds to the usual one."""
    theory = interpretation.theory
    unit = UNIT_SUFFIXES.get(theory.unit, "")
    added = name.removesuffix(unit).removeprefix(theory.coupling.removesuffix(unit)).strip("_").replace("_", " ")
    return f"{theory.symbol} ({added})" if added else theory.symbol


def _channel_edges(search: Loaded) -> list[float]:
    """Masses between grid points where the channel changes, or in a combination the searches that take part."""

    def fitted(point: GridPoint) -> dict[str, str]:
        return {name: own.channel for name, own in searches_at(search, point).items()}

    pairs = itertools.pairwise(search.points)
    return [0.5 * (a.mass + b.mass) for a, b in pairs if fitted(a) != fitted(b)]


def gaps_of(search: Loaded) -> list[tuple[float, float]]:
    if isinstance(search, LoadedCombination):
        return list(search.grid.gaps)
    return [(gap.low, gap.high) for gap in search.spec.grid[search.spec.grid_variable].gaps]


def _channel(run: Path, row: Mapping[str, Any], within: str) -> dict[str, Any]:
    """The channel of a workspace that belongs to a search of a combination, or the only one."""
    workspace = read_json(run / WORKSPACES / f"{row['point']}.json")
    found: dict[str, Any] = next(
        channel for channel in workspace["channels"] if not within or channel["name"].startswith(f"{within}_")
    )
    return found


def _templates(run: Path, name: str, within: str = "") -> dict[str, Any]:
    """The templates of a point by name; those of one search of a combination."""
    path = run / TEMPLATES / f"{name}.json"
    if not path.is_file():
        msg = f"{path}: no such file; was this point built?"
        raise RunDirectoryError(msg)
    start = f"{within}/" if within else ""
    found = from_uhi_json(path.read_text(encoding="utf-8"))
    return {sample.removeprefix(start): one for sample, one in found.items() if sample.startswith(start)}
