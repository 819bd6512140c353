"""Runs made of workspaces written by hand: whole run directories within a second, without a simulation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelbuilder.inference.choice import LimitRequest, find_limit, open_likelihood
from modelbuilder.scan.store import RunDirectory
from modelbuilder.scan.table import BANDS
from modelbuilder.spec.load import load_search

SPEC = Path(__file__).parents[2] / "specs" / "belle2" / "alp_gammagamma_2018.yaml"
METHODS = ("cls", "profile-likelihood")
FACTORS = {"mu": 1.0, "yield_events": 5.0, "cross_section_fb": 3.0, "g_agammagamma_per_gev": 1e-5}

Json = dict[str, Any]
Edges = Sequence[float]


def normsys(name: str, size: float) -> Json:
    return {"name": name, "type": "normsys", "data": {"hi": 1.0 + size, "lo": 1.0 / (1.0 + size)}}


def histosys(name: str, high: Sequence[float], low: Sequence[float]) -> Json:
    return {"name": name, "type": "histosys", "data": {"hi_data": list(high), "lo_data": list(low)}}


def window(signal: Sequence[float], background: Sequence[float], observed: Sequence[int], *more: Json) -> Json:
    """One channel; signal and background with modifiers of every kind that our workspaces have."""
    lumi = {"name": "lumi", "type": "lumi", "data": None}
    tilted = [value * (1.0 + 0.1 * (-1) ** index) for index, value in enumerate(signal)]
    opposite = [value * (1.0 - 0.1 * (-1) ** index) for index, value in enumerate(signal)]
    stat = {"name": "staterror_plane", "type": "staterror", "data": [0.1 * value for value in background]}
    return {
        "channels": [
            {
                "name": "plane",
                "samples": [
                    {
                        "name": "signal",
                        "data": list(signal),
                        "modifiers": [
                            {"name": "mu", "type": "normfactor", "data": None},
                            lumi,
                            normsys("trigger", 0.05),
                            histosys("tilt", tilted, opposite),
                        ],
                    },
                    {
                        "name": "background",
                        "data": list(background),
                        "modifiers": [lumi, normsys("trigger", 0.05), normsys("background_rate", 1.0 / 3.0), stat],
                    },
                    *more,
                ],
            }
        ],
        "measurements": [
            {
                "name": "set below",
                "config": {
                    "poi": "mu",
                    "parameters": [
                        {"name": "mu", "inits": [1.0], "bounds": [[0.0, 20.0]]},
                        {"name": "lumi", "inits": [1.0], "bounds": [[0.9, 1.1]], "auxdata": [1.0], "sigmas": [0.02]},
                    ],
                },
            }
        ],
        "observations": [{"name": "plane", "data": list(observed)}],
        "version": "1.0.0",
    }


WINDOWS = tuple(
    window([1.0 / 3.0 + i, 2.0 + i / 7.0, 1.0], [10.0 / 3.0, 4.0 + i, 5.0], [3, 4 + i, 6]) for i in range(3)
)
"""Each with its own data and background, as sliding windows have them."""
SHARED = tuple(window([1.0 + i, 2.0, 1.0 / (1.0 + i)], [10.0 / 3.0, 4.0, 5.0], [3, 5, 6]) for i in range(3))
"""One fit region for all."""

MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """Makes a finished run of these workspaces, at 1, 2, 3 GeV and so on, with the limits that they have."""

    def make(workspaces: Sequence[Json], *, edges: Sequence[Edges] | None = None, fail: int | None = None) -> Path:
        masses = ", ".join(f"{index + 1} GeV" for index in range(len(workspaces)))
        changes = (
            f"grid.m_a.segments=[{{values: [{masses}], source: assumption}}]",
            f"statistics.methods=[{', '.join(METHODS)}]",
        )
        search = load_search(SPEC, overrides=changes)
        path = tmp_path_factory.mktemp("run") / "out"
        with RunDirectory.open_for(path, search, command="by hand") as run:
            for index, (point, found) in enumerate(zip(search.points, workspaces, strict=True)):
                workspace = json.loads(json.dumps(found))
                workspace["measurements"][0]["name"] = point.name
                mine = [float(index + x) for x in range(4)] if edges is None else list(edges[index])
                axes = [{"type": "variable", "edges": mine, "underflow": False, "overflow": False, "circular": False}]
                templates = json.dumps({"observation": {"axes": axes}})
                run.write_point_files(point.name, workspace, templates)
                rows = [
                    {**_head(point.name, point.mass), "method": method, "status": "not-converged"}
                    if index == fail
                    else _row(workspace, method, _head(point.name, point.mass))
                    for method in METHODS
                ]
                run.append([{"point": point.name, "rows": rows, "lint": []}])
            run.finish(complete=True)
        return path

    return make


def _head(name: str, mass: float) -> Json:
    return {
        "point": name,
        "m_a_gev": mass,
        "channel": "diphoton",
        "confidence_level": 0.9,
        "data": "pseudo:2018",
        "signal_efficiency": 0.2,
        "background_events": 12.5,
        "reference_cross_section_fb": 3.0,
    }


def _row(workspace: Json, method: str, head: Json) -> Json:
    likelihood, _ = open_likelihood(workspace)
    found = find_limit(likelihood, LimitRequest(method=method, confidence_level=0.9))
    row = {**head, "method": method, "status": "ok", "local_significance": found.discovery.significance}
    for quantity, factor in FACTORS.items():
        row[f"{quantity}_observed"] = factor * found.observed
        row |= {f"{quantity}_{band}": factor * value for band, value in zip(BANDS, found.expected, strict=True)}
    return row


@pytest.fixture(scope="session")
def windows_run(make_run: MakeRun) -> Path:
    return make_run(WINDOWS)


@pytest.fixture(scope="session")
def shared_run(make_run: MakeRun) -> Path:
    return make_run(SHARED, edges=[(0.0, 1.0, 2.0, 3.0)] * 3)
