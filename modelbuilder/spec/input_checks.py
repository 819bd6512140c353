"""Checks of data and backgrounds from files: what they must have for the channels, which only the whole spec tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pydantic_core import PydanticCustomError

from modelbuilder.spec.cuts import Cut
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.inputs import Events, FromFile, Histogram, Observed, SignalAtMass, is_at
from modelbuilder.spec.plane import PlaneChannel
from modelbuilder.spec.problems import nearest
from modelbuilder.spec.search import (
    AnyBackground,
    AnyChannel,
    BackgroundFromFiles,
    Data,
    GridAxis,
    ObservedData,
    Signal,
)
from modelbuilder.spec.sideband import SidebandElsewhere, sideband_name

Path = tuple[str | int, ...]
Finding = tuple[Path, str]


def _inputs_fit(
    backgrounds: dict[str, AnyBackground],
    data: Data,
    channels: dict[str, AnyChannel],
    selection: list[Cut],
    points: tuple[GridPoint, ...],
) -> Iterator[Finding]:
    """One input for each channel, and data for each sideband in another quantity, with its observables and the quantities of the cuts that are to be made."""
    used = list(dict.fromkeys(point.channel for point in points))
    for name, background in backgrounds.items():
        if isinstance(background, BackgroundFromFiles):
            asked = dict(zip(used, used, strict=True))
            yield from _all_fit(("backgrounds", name, "files"), background.files, channels, asked, selection, points)
    if isinstance(data, ObservedData):
        beside = {
            sideband_name(name): name
            for name in used
            if isinstance(getattr(channels[name], "sideband", None), SidebandElsewhere)
        }
        asked = {**dict(zip(used, used, strict=True)), **beside}
        yield from _all_fit(("data", "files"), data.files, channels, asked, selection, points)


def _signals_fit(
    signal: Signal,
    grid: dict[str, GridAxis],
    channels: dict[str, AnyChannel],
    selection: list[Cut],
    points: tuple[GridPoint, ...],
) -> Iterator[Finding]:
    """A signal from files has one entry for each mass: contents of bins are never interpolated."""
    if signal.files is None:
        return
    path: Path = ("signal", "files")
    for name, entries in signal.files.items():
        if name not in channels:
            yield (*path, name), f"found {name!r}, which is not a channel{nearest(name, channels)}"
            continue
        for index, entry in enumerate(entries):
            own = (*path, name, index)
            if set(entry.at) != set(grid):
                yield (*own, "at"), f"found {', '.join(entry.at)}; the grid has {' and '.join(grid)}"
            yield from _fits(own, entry, channels[name], selection)
    for point in points:
        found = [entry for entry in signal.files.get(point.channel, []) if is_at(entry.at, point.values)]
        if len(found) != 1:
            what = "missing" if not found else "found twice"
            reason = f"{what}: {point.text} in {point.channel}; each mass of the grid needs one entry, nothing is interpolated"
            yield path, reason
            break


def _fits(
    path: Path, entry: Observed | FromFile | SignalAtMass, channel: AnyChannel, selection: list[Cut]
) -> Iterator[Finding]:
    try:
        if isinstance(entry, Events):
            yield from _events_fit(path, entry, channel, selection)
        else:
            yield from _histogram_fits(path, entry, channel)
    except PydanticCustomError as error:
        context = error.context or {}
        yield (*path, *context["at"]), str(context["reason"])


def _all_fit(
    path: Path,
    files: Mapping[str, Observed | FromFile],
    channels: dict[str, AnyChannel],
    asked: Mapping[str, str],
    selection: list[Cut],
    points: tuple[GridPoint, ...],
) -> Iterator[Finding]:
    for name, entry in files.items():
        own = (*path, name)
        if name not in channels and name not in asked:
            yield own, f"found {name!r}, which is not a channel{nearest(name, asked)}"
            continue
        channel = asked.get(name, name)
        yield from _fits(own, entry, channels[channel], selection)
        yield from _knows_its_cuts(own, entry, channel, selection, points)
    missing = [name for name in asked if name not in files]
    if missing:
        yield path, f"missing: {', '.join(missing)}; each channel needs its own"


def _histogram_fits(path: Path, entry: Histogram, channel: AnyChannel) -> Iterator[Finding]:
    if isinstance(channel, PlaneChannel):
        yield path, "found a histogram; windows in a plane are ellipses, which no bins follow, give the events"
    elif entry.table is not None:
        second = () if channel.second is None else (channel.second.observable,)
        entry.contents((channel.observable, *second))


def _events_fit(path: Path, entry: Events, channel: AnyChannel, selection: list[Cut]) -> Iterator[Finding]:
    in_plane = isinstance(channel, PlaneChannel)
    texts = list(channel.observables) if isinstance(channel, PlaneChannel) else [channel.observable]
    if not isinstance(channel, PlaneChannel) and channel.second is not None:
        texts.append(channel.second.observable)
    for index, text in enumerate(texts):
        column = entry.column_of(text)
        if column is None:
            known = ", ".join(entry.observables)
            yield (*path, "observables"), f"found {known}; missing: {text}, the observable of the channel"
        elif len(column.names) > 1 and (in_plane or index > 0):
            reason = f"found {len(column.names)} columns for {text}; it has one value in an event"
            yield (*path, "observables"), reason
    if entry.cuts == "selection":
        for cut in selection:
            entry.check_cut(cut, ("cuts",))


def _knows_its_cuts(
    path: Path, entry: Observed | FromFile, channel: str, selection: list[Cut], points: tuple[GridPoint, ...]
) -> Iterator[Finding]:
    """What was selected before knows one set of cuts."""
    if isinstance(entry, Events) and entry.cuts == "selection":
        return
    sets = {
        tuple(cut.where is None or cut.where.holds(point.values) for cut in selection)
        for point in points
        if point.channel == channel
    }
    if len(sets) > 1:
        what = "events with `cuts: selection`" if isinstance(entry, Events) else "the events, with `cuts: selection`"
        reason = (
            f"the cuts of {channel} change with the mass, {len(sets)} sets of them, and what is in the file knows one; give"
            f" {what}, or a channel for each set"
        )
        yield path, reason


CHECKS: tuple[Callable[..., Iterator[Finding]], ...] = (_inputs_fit, _signals_fit)
