"""The grid points of a search in the plane of two masses: windows that are worked out for all of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from modelbuilder.histograms.cache import SimulationCache
from modelbuilder.histograms.plane import PlaneSimulation, PlaneWindows, closure_of, nodes_csv, windows_csv
from modelbuilder.histograms.simulate import Simulation
from modelbuilder.scan.point import MadePoint, built_from, reading_of
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.observables import unit_of
from modelbuilder.spec.search import SIGNAL, Background
from modelbuilder.workspace.lint import LintMessage

NODES, WINDOWS = "nodes.csv", "windows.csv"
LARGEST_CLOSURE = 0.1
"""Root of the mean square of the closure of the nodes, above which there is a warning."""


@dataclass(frozen=True)
class Windows:
    """As `Shared`: the windows of all grid points, however few are asked for, so that their table is complete."""

    windows: PlaneWindows
    variables: tuple[str, ...]
    units: tuple[str, ...]
    points_at_a_time: int = 200

    def files(self) -> Iterator[tuple[str, str]]:
        """As `Shared`."""
        if self.windows.nodes is not None:
            yield NODES, nodes_csv(self.windows.nodes, self.variables, self.units)
        yield WINDOWS, windows_csv(self.windows, self.variables)


class PointsInPlane:
    """As `Points`. A point has no file of templates: its workspace is one bin, and what went into it is in the table."""

    def __init__(self, search: LoadedSearch, *, n_threads: int = 1, cache: SimulationCache | None = None) -> None:
        self.search, self.n_threads, self.cache = search, n_threads, cache

    @property
    def simulations(self) -> Mapping[str, Simulation]:
        """As `Points`."""
        return {"": Simulation(self.search, n_threads=self.n_threads, cache=self.cache)}

    def inputs(self, point: GridPoint) -> dict[str, object]:
        """As `Points`: of a background, what lies in the windows of all points."""
        simulation, spec = PlaneSimulation(self.search, n_threads=self.n_threads), self.search.spec
        nodes = simulation.node_inputs() if spec.signal.events else None
        found: dict[str, object] = {} if nodes is None else {SIGNAL: nodes}
        windows = nodes, simulation.channel, tuple(other.masses for other in self.search.points)
        for name, background in spec.backgrounds.items():
            if isinstance(background, Background):
                found[name] = simulation.background_inputs(name), windows
        return found

    def shared(self, points: list[GridPoint]) -> Windows:
        """As `Points`."""
        simulation = PlaneSimulation(self.search, n_threads=self.n_threads, cache=self.cache)
        units = tuple(unit_of(text) for text in simulation.channel.observables)
        return Windows(simulation.windows(self.search.points), self.search.spec.grid_variables, units)

    def made(self, point: GridPoint, shared: Windows) -> MadePoint:
        """As `Points`; the first point of the grid says how well the nodes are interpolated."""
        found = built_from(self.search, point, shared.windows.at(point))
        closure = closure_lint(self.search, shared.windows) if point.index == 0 else ()
        return MadePoint(
            point=point,
            workspace=found.built.workspace,
            lint=(*closure, *found.built.lint),
            templates={},
            readings=(reading_of(self.search.spec, found),),
            is_count=True,
        )


def closure_lint(search: LoadedSearch, windows: PlaneWindows) -> tuple[LintMessage, ...]:
    """How well the nodes of a simulated signal are interpolated."""
    if windows.nodes is None:
        return ()
    number, typical, largest = closure_of(windows.nodes)
    if number:
        worst = windows.nodes.masses[int(np.nanargmax(np.abs(windows.nodes.closure - 1.0)))]
        text = (
            f"{number} nodes as interpolated from those around them: the signal in their windows is off by"
            f" {100 * typical:.1f} % (root of the mean square), at most {100 * largest:.0f} %, at {worst[0]:g} and"
            f" {worst[1]:g} GeV; see templates/{NODES}"
        )
    else:
        text = "the nodes are too few to leave one out: nothing is known of how well they are interpolated"
    return (
        LintMessage(
            severity="note" if number and typical <= LARGEST_CLOSURE else "warning",
            rule="closure",
            channel=windows.points[0].channel,
            sample=SIGNAL,
            message=text,
            place=str(search.place_of("signal", "nodes")),
        ),
    )
