"""The windows of a search in the plane of two masses, as the source of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modelbuilder.histograms.plane import PlaneSimulation, PlaneWindows, closure_of, nodes_csv, windows_csv
from modelbuilder.histograms.templates import PointTemplates
from modelbuilder.scan.store import TEMPLATES, RunDirectory, write_atomically
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.observables import unit_of
from modelbuilder.spec.search import SIGNAL
from modelbuilder.workspace.lint import LintMessage

if TYPE_CHECKING:
    from modelbuilder.scan.point import BuiltPoint

NODES, WINDOWS = "nodes.csv", "windows.csv"
LARGEST_CLOSURE = 0.1
"""Root of the mean square of the closure of the nodes, above which there is a warning."""


class PlaneSource:
    """Windows that were worked out for all points at once; lint is what the first point of the grid says for all."""

    points_at_a_time = 200

    def __init__(self, windows: PlaneWindows, findings: dict[str, list[LintMessage]]) -> None:
        self.windows, self.findings = windows, findings

    @classmethod
    def prepared(
        cls, search: LoadedSearch, points: Sequence[GridPoint], run: RunDirectory, *, n_threads: int
    ) -> PlaneSource:
        """Simulate nodes and backgrounds, and write tables of the nodes and of the windows of all grid points."""
        simulation = PlaneSimulation(search, n_threads=n_threads)
        windows = simulation.windows(search.points)
        variables = search.spec.grid_variables
        if windows.nodes is not None:
            units = [unit_of(text) for text in simulation.channel.observables]
            write_atomically(run.path / TEMPLATES / NODES, nodes_csv(windows.nodes, variables, units))
        write_atomically(run.path / TEMPLATES / WINDOWS, windows_csv(windows, variables))
        return cls(windows, {search.points[0].name: list(_closure(search, windows))})

    def templates(self, search: LoadedSearch, point: GridPoint) -> PointTemplates:
        """As `Source.templates`."""
        return self.windows.at(point)

    def write_point(self, run: RunDirectory, found: BuiltPoint) -> None:
        """The workspace; what it is made of stands in the table of the windows."""
        run.write_workspace(found.point.name, found.built.workspace, through=False)

    def lint(self, point: GridPoint) -> Sequence[LintMessage]:
        """As `Source.lint`."""
        return self.findings.get(point.name, [])


def _closure(search: LoadedSearch, windows: PlaneWindows) -> list[LintMessage]:
    """How well the nodes are interpolated."""
    if windows.nodes is None:
        return []
    number, typical, largest = closure_of(windows.nodes)
    if not number:
        text = "the nodes are too few to leave one out: nothing is known of how well they are interpolated"
        severity, found = "warning", text
    else:
        worst = windows.nodes.masses[int(np.nanargmax(np.abs(windows.nodes.closure - 1.0)))]
        severity = "warning" if typical > LARGEST_CLOSURE else "note"
        found = (
            f"{number} nodes as interpolated from the others: the signal in their windows is off by {100 * typical:.1f} %"
            f" (root of the mean square), by {100 * largest:.0f} % at most, at {worst[0]:g} and {worst[1]:g} GeV;"
            " the full grid of nodes is twice as fine"
        )
    return [
        LintMessage(
            severity="warning" if severity == "warning" else "note",
            rule="closure",
            channel=windows.points[0].channel,
            sample=SIGNAL,
            message=found,
            place=str(search.place_of("signal", "nodes")),
        )
    ]
