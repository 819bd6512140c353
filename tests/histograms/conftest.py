"""What the tests of histograms share: our search with fewer events, simulated once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.spec.load import LoadedSearch, load_search

SPEC = Path(__file__).parents[2] / "specs" / "belle2" / "alp_gammagamma_2018.yaml"
SMALL = ("signal.events=20000", "backgrounds.three_photon.events=200000")


@pytest.fixture(scope="session")
def load() -> Callable[..., LoadedSearch]:
    """Our search with few events and some values replaced."""

    def with_overrides(*overrides: str) -> LoadedSearch:
        return load_search(SPEC, overrides=(*SMALL, *overrides))

    return with_overrides


@pytest.fixture(scope="session")
def simulation(load: Callable[..., LoadedSearch]) -> Simulation:
    return Simulation(load())


@pytest.fixture(scope="session")
def backgrounds(simulation: Simulation) -> dict[str, RegionTemplates]:
    """Backgrounds and observation of all regions."""
    return {name: simulation.background(region) for name, region in simulation.regions.items()}
