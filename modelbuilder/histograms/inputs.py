"""Templates from files: histograms whose bins are merged to those of a channel, and events that are filled into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pydantic_core import PydanticCustomError
from scipy.special import erf

from modelbuilder.errors import SpecError
from modelbuilder.histograms.templates import FloatArray, Template
from modelbuilder.spec.checks import placed
from modelbuilder.spec.cuts import Cut, ThresholdTurnOn
from modelbuilder.spec.inputs import Events, ExpectedHistogram, Histogram, equal_bins_that_fit, merged_bins
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.observables import unit_of
from modelbuilder.spec.search import BackgroundFromFiles


def template_from_file(
    search: LoadedSearch,
    path: tuple[str | int, ...],
    channel: str,
    *,
    observables: Sequence[str],
    edges: Sequence[FloatArray],
    cuts: Sequence[Cut],
) -> Template:
    """What the file at a path of `spec.inputs` has in bins of one or two observables; the second runs fastest.

    edges: of each observable, in its unit.    cuts: of the region, for events whose `cuts` are those of the search.
    Values are as in the file. Variances are zero for data, and where the shape of a background is `stated`.
    Raises SpecError where the bins do not fit, or weights add up to less than nothing.
    """
    entry = search.spec.inputs[path]
    if isinstance(entry, Events):
        found = _filled(entry, search.columns_of(path), observables, edges, cuts, is_data=path[0] == "data")
        if np.any(found.values < 0.0):
            at = int(np.argmin(found.values))
            reason = (
                f"the weights of bin {at + 1} add up to {found.values[at]:g} events; take wider bins, or more events"
            )
            raise _refused(search, (*path, "weight"), reason)
    else:
        found = _merged(search, path, channel, entry, observables, edges)
    background = search.spec.backgrounds[str(path[1])] if path[0] == "backgrounds" else None
    is_exact = path[0] == "data" or (isinstance(background, BackgroundFromFiles) and background.shape == "stated")
    return Template(found.values, np.zeros_like(found.values)) if is_exact else found


def _merged(
    search: LoadedSearch,
    path: tuple[str | int, ...],
    channel: str,
    entry: Histogram,
    observables: Sequence[str],
    edges: Sequence[FloatArray],
) -> Template:
    contents = entry.contents(observables)
    try:
        places = [
            merged_bins(have, want, unit_of(text))
            for have, want, text in zip(contents.edges, edges, observables, strict=True)
        ]
    except ValueError as error:
        raise _refused(search, path, f"{error}{_remedy(search, channel, contents.edges, edges)}") from None
    variances = np.zeros_like(contents.values)
    if isinstance(entry, ExpectedHistogram):
        try:
            variances = entry.statistical(contents)
        except PydanticCustomError as error:
            if path[0] != "backgrounds" or search.spec.backgrounds[str(path[1])].shape != "stated":
                raise _refused(search, path, str((error.context or {})["reason"])) from None
    return Template(_summed(contents.values, places), _summed(variances, places))


def _summed(values: FloatArray, places: Sequence[npt.NDArray[np.int64]]) -> FloatArray:
    for axis, own in enumerate(places):
        inside = np.take(values, np.arange(own[0], own[-1]), axis=axis)
        values = np.add.reduceat(inside, own[:-1] - own[0], axis=axis)
    return values.ravel()


def _remedy(search: LoadedSearch, channel: str, have: Sequence[FloatArray], want: Sequence[FloatArray]) -> str:
    """What would be right: numbers of bins that fit, or where the edges can be seen."""
    asked = search.spec.line(channel)
    if asked.bins is None:
        return (
            f"; `modelbuilder show SPEC --edges` prints those of {channel}: fill them, or give the events, or write `range` and"
            " `bins` in place of bin_width"
        )
    low, high = asked.limits
    fitting = equal_bins_that_fit(have[0], low, high, asked.bins)
    if asked.bins in fitting:
        return ""  # it is the second observable
    if fitting:
        return f"; with this range, {' or '.join(f'`bins: {number}`' for number in fitting)} would fit"
    inside = have[0][(have[0] >= low) & (have[0] <= high)]
    ends = f", such as {inside[0]:.9g} to {inside[-1]:.9g}" if len(inside) > 1 else ""
    return f"; the range must begin and end at edges of the histogram{ends}"


def _filled(
    entry: Events,
    columns: Mapping[str, FloatArray],
    observables: Sequence[str],
    edges: Sequence[FloatArray],
    cuts: Sequence[Cut],
    *,
    is_data: bool,
) -> Template:
    weights = passed(entry, columns, cuts, is_data=is_data)
    shape = [len(one) - 1 for one in edges]
    values = entry.values(observables[0], columns)
    bins = np.searchsorted(edges[0], values, side="right") - 1
    inside = (bins >= 0) & (bins < shape[0])
    if len(observables) == 2:
        second = np.searchsorted(edges[1], entry.values(observables[1], columns)[0], side="right") - 1
        inside &= (second >= 0) & (second < shape[1])
        bins = bins * shape[1] + second
    weights = np.broadcast_to(weights, bins.shape)
    number = int(np.prod(shape))
    flat, own = bins[inside], weights[inside]
    return Template(
        np.bincount(flat, own, number).astype(np.float64), np.bincount(flat, own**2, number).astype(np.float64)
    )


def passed(entry: Events, columns: Mapping[str, FloatArray], cuts: Sequence[Cut], *, is_data: bool) -> FloatArray:
    """The weight of each event, 0 where it does not pass; shape (n_events,).

    cuts: of the search, if the entry asks for them. Turn-ons of a trigger act on backgrounds alone: data have met it.
    """
    n_events = len(next(iter(columns.values())))
    weights = np.ones(n_events) if entry.weight is None else columns[entry.weight].copy()
    for cut in cuts if entry.cuts == "selection" else entry.listed_cuts:
        if cut.turn_on is not None and is_data:
            continue
        values = entry.values(cut.quantity, columns)
        if cut.turn_on is not None:
            weights *= _turned_on(cut, values[0])
            continue
        low, high = cut.bounds
        number = ((values >= low) & (values <= high)).sum(axis=0)
        weights[number < (len(values) if cut.at_least is None else cut.at_least)] = 0.0
    return weights


def total_of_file(
    search: LoadedSearch, path: tuple[str | int, ...], observables: Sequence[str], cuts: Sequence[Cut]
) -> float:
    """All that the file at a path of `spec.inputs` has after the cuts, in the bins of the channel or not."""
    entry = search.spec.inputs[path]
    if isinstance(entry, Events):
        return float(passed(entry, search.columns_of(path), cuts, is_data=False).sum())
    return float(entry.contents(observables).values.sum())


def _turned_on(cut: Cut, values: FloatArray) -> FloatArray:
    if isinstance(cut.turn_on, ThresholdTurnOn):
        threshold, width, plateau = cut.threshold
        efficiency: FloatArray = 0.5 * plateau * (1.0 + erf((values - threshold) / (np.sqrt(2.0) * width)))
        return efficiency
    points, efficiencies = zip(*cut.points, strict=True)
    measured: FloatArray = np.interp(values, points, efficiencies)
    return measured


def _refused(search: LoadedSearch, path: tuple[str | int, ...], reason: str) -> SpecError:
    return SpecError((placed(search.tree, path, reason),))
