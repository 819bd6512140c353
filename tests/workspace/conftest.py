"""What the tests of workspaces share: points across the grid, built once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.histograms.templates import PointTemplates
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import LoadedSearch, load_search
from modelbuilder.workspace.build import PointWorkspace, build_workspace

SPEC = Path(__file__).parents[2] / "specs" / "belle2" / "alp_gammagamma_2018.yaml"
SMALL = ("signal.events=50000", "backgrounds.three_photon.events=1000000")
ETA, PI0 = 0.5479, 0.1350
MASSES = (0.2, ETA, 3.0, 5.5, 6.84, 6.88, 9.69)
"""The ends of the grid, a meson, both orders of the polynomial, both sides of the switch of the observable."""


class Point:
    """A grid point with its templates and its workspace."""

    def __init__(self, search: LoadedSearch, point: GridPoint, templates: PointTemplates) -> None:
        self.search, self.point, self.templates = search, point, templates
        self.built: PointWorkspace = build_workspace(search, point, templates)

    @property
    def workspace(self) -> dict[str, Any]:
        return self.built.workspace

    @property
    def samples(self) -> dict[str, dict[str, Any]]:
        (channel,) = self.workspace["channels"]
        return {sample["name"]: sample for sample in channel["samples"]}

    def modifiers(self, sample: str) -> dict[str, dict[str, Any]]:
        return {modifier["name"]: modifier for modifier in self.samples[sample]["modifiers"]}


@pytest.fixture(scope="session")
def point_at() -> Callable[..., Point]:
    """Builds the grid point closest to a mass, GeV, of our search with few events and some values replaced."""
    searches: dict[tuple[str, ...], tuple[Simulation, dict[str, RegionTemplates]]] = {}
    points: dict[tuple[str, ...], Point] = {}

    def make(mass: float, *overrides: str) -> Point:
        if overrides not in searches:
            searches[overrides] = Simulation(load_search(SPEC, overrides=(*SMALL, *overrides))), {}
        simulation, backgrounds = searches[overrides]
        search = simulation.search
        point = min(search.points, key=lambda p: abs(p.mass - mass))
        key = (*overrides, point.name)
        if key not in points:
            region = simulation.region_of(point)
            if region.name not in backgrounds:
                backgrounds[region.name] = simulation.background(region)
            signal, efficiency = simulation.signal(region, point)
            points[key] = Point(search, point, backgrounds[region.name].at(point, signal, efficiency))
        return points[key]

    return make
