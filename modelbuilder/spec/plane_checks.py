"""Checks of searches in the plane of two masses: what belongs together there, and what is not possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from modelbuilder.spec.cuts import Cut
from modelbuilder.spec.experiment import Experiment
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.plane import PlaneChannel
from modelbuilder.spec.search import (
    AnyBackground,
    AnyChannel,
    Background,
    BernsteinShape,
    GridAxis,
    LuminositySystematic,
    ProducedSystematic,
    RateSystematic,
    Signal,
    Statistics,
    Systematic,
)
from modelbuilder.spec.triangles import ON_THE_EDGE, Triangles

Path = tuple[str | int, ...]
Finding = tuple[Path, str]


def grid_fits(variables: tuple[str, ...], channels: Mapping[str, AnyChannel]) -> Iterator[Finding]:
    """Two masses need channels in the plane of two observables, and these two masses."""
    for name, channel in channels.items():
        path: Path = ("channels", name)
        if isinstance(channel, PlaneChannel):
            if tuple(channel.plane) != variables:
                reason = f"found {' and '.join(channel.plane)}; the grid has {' and '.join(variables)}, in this order"
                yield (*path, "plane"), reason
        elif len(variables) == 2:
            pair = ", ".join(f"{variable}: ..." for variable in variables)
            reason = f"found one observable, but the grid has two masses; write `plane: {{{pair}}}` with one for each"
            yield path, reason


def wrong_expectation(channel: AnyChannel) -> str:
    """For a stated background that does not fit its channel."""
    if isinstance(channel, PlaneChannel):
        return "found a spectrum of one observable; in a plane write `per: window`, or an interval of each observable"
    return "found events in a plane, but the channel has one observable; write `per: 10 MeV`, or as it is"


def _signal_is_simulated_or_stated(
    signal: Signal, channels: dict[str, AnyChannel], grid: dict[str, GridAxis], points: tuple[GridPoint, ...]
) -> Iterator[Finding]:
    planes = {name: channel for name, channel in channels.items() if isinstance(channel, PlaneChannel)}
    if not planes:
        if signal.nodes is not None:
            yield (
                ("signal", "nodes"),
                "found nodes, but no channel is in a plane: each grid point is simulated; remove the key",
            )
        if not signal.events and signal.files is None:
            yield ("signal",), "missing: events; say how many to simulate at each grid point"
        return
    if signal.events and signal.nodes is None:
        yield ("signal",), "missing: nodes; say at which pairs of masses the signal is simulated"
    for name, channel in planes.items():
        path: Path = ("channels", name)
        if signal.events and channel.correlation is not None:
            yield (*path, "correlation"), "the signal is simulated, so the correlation is measured; remove the key"
        elif not signal.events:
            missing = [variable for variable in channel.plane if variable not in channel.resolution]
            if missing:
                reason = f"missing: {', '.join(missing)}; no signal is simulated that it could be measured of"
                yield (*path, "resolution") if channel.resolution else path, reason
            if channel.correlation is None:
                yield path, "missing: correlation; no signal is simulated that it could be measured of"
    if signal.nodes is not None:
        yield from _nodes_surround_the_grid(signal, grid, points)


def _nodes_surround_the_grid(
    signal: Signal, grid: dict[str, GridAxis], points: tuple[GridPoint, ...]
) -> Iterator[Finding]:
    nodes, path = signal.nodes, ("signal", "nodes")
    assert nodes is not None
    if tuple(nodes.masses) != tuple(grid):
        yield (*path, "masses"), f"found {' and '.join(nodes.masses)}; the grid has {' and '.join(grid)}, in this order"
        return
    if nodes.where is not None and not nodes.where.variables <= set(grid):
        return  # reported already
    try:
        triangles = Triangles(np.array([tuple(pair.values()) for pair in nodes.pairs]))
    except ValueError as error:
        yield path, str(error)
        return
    outside = triangles.at(np.array([point.masses for point in points])).outside
    if outside.max() > ON_THE_EDGE:
        worst = points[int(np.argmax(outside))]
        number = int(np.count_nonzero(outside > ON_THE_EDGE))
        reason = f"{number} grid points lie outside of the nodes, such as {worst.text}; nodes must surround the grid"
        yield path, reason


def _one_plane(channels: dict[str, AnyChannel], selection: list[Cut]) -> Iterator[Finding]:
    """The simulated nodes, and all events, belong to one channel with one set of cuts."""
    planes = [name for name, channel in channels.items() if isinstance(channel, PlaneChannel)]
    if not planes:
        return
    if len(channels) > 1:
        yield ("channels",), f"found {' and '.join(channels)}; a search in a plane has one channel"
    for index, cut in enumerate(selection):
        if cut.where is not None:
            reason = "a cut in a plane holds at all masses: its events are shared by all windows; remove the key"
            yield ("selection", index, "where"), reason


def _nodes_are_possible(signal: Signal, experiment: Experiment, channels: dict[str, AnyChannel]) -> Iterator[Finding]:
    if signal.nodes is None or not any(isinstance(channel, PlaneChannel) for channel in channels.values()):
        return
    sqrt_s = experiment.beams.sqrt_s
    for name, masses in signal.nodes.masses.items():
        if masses[-1] >= sqrt_s:
            reason = f"found {masses[-1]:g} GeV; it must lie below the collision energy, {sqrt_s:.4g} GeV"
            yield ("signal", "nodes", "masses", name), reason


def _samples_are_counted(
    channels: dict[str, AnyChannel],
    backgrounds: dict[str, AnyBackground],
    systematics: dict[str, Systematic],
    statistics: Statistics,
) -> Iterator[Finding]:
    """One number per window: no free shapes or rates, and no uncertainties of shapes."""
    if not any(isinstance(channel, PlaneChannel) for channel in channels.values()):
        return
    for name, background in backgrounds.items():
        path: Path = ("backgrounds", name)
        if isinstance(background.shape, BernsteinShape):
            known = "simulated" if isinstance(background, Background) else "stated"
            yield (*path, "shape"), f"found a free shape, but a window in a plane is one number; write `shape: {known}`"
        elif background.rate == "free":
            reason = "found free, but one number cannot tell a background from a signal; write `rate: fixed`"
            yield (*path, "rate"), f"{reason}, and its uncertainty as a systematic"
    for name, systematic in systematics.items():
        if not isinstance(systematic, LuminositySystematic | ProducedSystematic | RateSystematic):
            reason = (
                f"found {systematic.kind}; a window in a plane is one number, and has uncertainties of its rate only"
            )
            yield ("systematics", name, "kind"), reason
    if statistics.band_toys is not None and statistics.methods == ["bayesian"]:
        reason = "acts on nothing: expected limits of counts are exact, without toys; remove it"
        yield ("statistics", "band_toys"), reason


CHECKS: tuple[Callable[..., Iterator[Finding]], ...] = (
    _one_plane,
    _signal_is_simulated_or_stated,
    _nodes_are_possible,
    _samples_are_counted,
)
