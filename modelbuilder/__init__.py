"""Config-as-code for the statistics of dark-sector searches at B factories.

    import modelbuilder as mb

    search = mb.load_search("specs/belle2/alp_gammagamma_2018.yaml")
    simulation = mb.Simulation(search)
    point = search.points[200]
    background = simulation.background(simulation.region_of(point))
    found = mb.build_point(search, simulation, background, point)     # templates and a pyhf workspace
    limit = mb.upper_limit(mb.PyhfLikelihood(found.built.workspace), method="cls")

or all of it, in parallel and into files: `mb.run_search(search, "out", points=12)`. `mb.load_spec` reads a search or a
combination of searches.

The names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from modelbuilder.errors import ModelBuilderError, UserError
    from modelbuilder.histograms.simulate import Simulation
    from modelbuilder.inference import AsymptoticCalculator, PyhfLikelihood, discovery, upper_limit
    from modelbuilder.scan.point import build_point
    from modelbuilder.scan.run import run_search
    from modelbuilder.scan.store import load_run
    from modelbuilder.spec.load import load_experiment, load_search, load_spec

_HOMES = {
    "ModelBuilderError": "modelbuilder.errors",
    "UserError": "modelbuilder.errors",
    "load_experiment": "modelbuilder.spec.load",
    "load_search": "modelbuilder.spec.load",
    "load_spec": "modelbuilder.spec.load",
    "Simulation": "modelbuilder.histograms.simulate",
    "AsymptoticCalculator": "modelbuilder.inference",
    "PyhfLikelihood": "modelbuilder.inference",
    "discovery": "modelbuilder.inference",
    "upper_limit": "modelbuilder.inference",
    "build_point": "modelbuilder.scan.point",
    "load_run": "modelbuilder.scan.store",
    "run_search": "modelbuilder.scan.run",
}

__all__ = [
    "AsymptoticCalculator",
    "ModelBuilderError",
    "PyhfLikelihood",
    "Simulation",
    "UserError",
    "__version__",
    "build_point",
    "discovery",
    "load_experiment",
    "load_run",
    "load_search",
    "load_spec",
    "run_search",
    "upper_limit",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module 'modelbuilder' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__
