"""Where the templates of grid points come from, and what is written of them: along one observable, point by point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.histograms.templates import PointTemplates, histograms, to_uhi_json
from modelbuilder.scan.store import TEMPLATES, RunDirectory, write_atomically
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.search import SIGNAL

if TYPE_CHECKING:
    from modelbuilder.scan.point import BuiltPoint
    from modelbuilder.workspace.lint import LintMessage


class Source(Protocol):
    """What the points of a run share. It goes to the processes that work on them."""

    @property
    def points_at_a_time(self) -> int:
        """Points of one task: many, where each takes little time."""

    def templates(self, search: LoadedSearch, point: GridPoint) -> PointTemplates:
        """Of a grid point; the same whichever others there are."""

    def write_point(self, run: RunDirectory, found: BuiltPoint) -> None:
        """The files of a point."""

    def lint(self, point: GridPoint) -> Sequence[LintMessage]:
        """What to keep in mind that only the source knows."""


class LineSource:
    """Windows along one observable: the signal of each point is simulated on its own."""

    points_at_a_time = 1

    def __init__(self, backgrounds: Mapping[str, RegionTemplates]) -> None:
        self.backgrounds = backgrounds
        self._simulation: Simulation | None = None

    def write(self, run: RunDirectory) -> None:
        """The backgrounds of all regions."""
        for templates in self.backgrounds.values():
            region = templates.region
            found = histograms(templates.backgrounds, templates.observation, region.axis, region.binning.edges)
            write_atomically(run.path / TEMPLATES / f"background_{region.name}.json", to_uhi_json(found))

    def templates(self, search: LoadedSearch, point: GridPoint) -> PointTemplates:
        """As `Source.templates`."""
        if self._simulation is None:
            self._simulation = Simulation(search, n_threads=1)
        region = self.backgrounds[self._simulation.region_of(point).name]
        signal, efficiency = self._simulation.signal(region.region, point)
        return region.at(point, signal, efficiency)

    def write_point(self, run: RunDirectory, found: BuiltPoint) -> None:
        """The workspace and the templates."""
        templates = found.templates
        samples = {SIGNAL: templates.signal, **templates.backgrounds}
        text = to_uhi_json(histograms(samples, templates.observation, templates.axis, templates.edges))
        run.write_point_files(found.point.name, found.built.workspace, text)

    def lint(self, point: GridPoint) -> Sequence[LintMessage]:
        """Nothing: it is all in the workspace."""
        return ()
