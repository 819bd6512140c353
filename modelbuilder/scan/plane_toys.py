"""Toys of a search in the plane of two masses: its windows share the events that lie in several of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from modelbuilder.errors import RunDirectoryError, WorkspaceError
from modelbuilder.histograms.plane import PlaneSimulation
from modelbuilder.histograms.templates import FloatArray
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.scan_significance import q0_of_data
from modelbuilder.inference.toys import toy_data
from modelbuilder.kinematics.shards import stream_key
from modelbuilder.scan.plane import WINDOWS
from modelbuilder.scan.shared_toys import STATERROR, common_workspace, data_names
from modelbuilder.scan.store import TEMPLATES, WORKSPACES
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.workspace.files import read_json


class DataOfWindows:
    """The data of every toy in every window, thrown at once.

    likelihoods: of the points.    windows: what lies in them.
    """

    def __init__(
        self,
        search: LoadedSearch,
        path: Path,
        points: Sequence[GridPoint],
        *,
        n_toys: int,
        seed: int,
        n_threads: int = 1,
    ) -> None:
        workspaces = [read_json(path / WORKSPACES / f"{point.name}.json") for point in points]
        self.likelihoods = []
        for likelihood in CompiledLikelihood.many(workspaces):
            if isinstance(likelihood, WorkspaceError):
                raise likelihood
            self.likelihoods.append(likelihood)
        simulation = PlaneSimulation(search, n_threads=n_threads)
        self.windows = simulation.toys(points, seed=seed, n_toys=n_toys)
        self._check(path / TEMPLATES / WINDOWS, points)
        self._bin, self._of_simulation = f"{simulation.name}[0]", f"{STATERROR}{simulation.name}[0]"
        # constraint terms of one name are one measurement for all windows; the one event beside them stands for nothing
        one, nothing = np.ones(1), np.zeros(1)
        constraints = CompiledLikelihood(common_workspace(workspaces, {simulation.name: (one, nothing, nothing)}, ()))
        self._place = {name: index for index, name in enumerate(data_names(constraints))}
        truth = constraints.fit_fixed_poi(0.0).bestfit
        key = stream_key(seed, "significance/constraints")[0]
        self._constraints = toy_data(constraints, truth, seed=key, hypothesis="background", n_toys=n_toys)

    def _check(self, path: Path, points: Sequence[GridPoint]) -> None:
        """Raise RunDirectoryError where toys are not thrown from what the run has in its windows."""
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = {row["point"]: row for row in csv.DictReader(lines)}
        for name, found in self.windows.expected.items():
            of_run = np.array([float(rows[point.name][f"{name}_events"]) for point in points])
            if not np.allclose(found, of_run, rtol=1e-6, atol=1e-9 * max(of_run.max(), 1.0)):
                worst = points[int(np.argmax(np.abs(found - of_run)))]
                msg = (
                    f"{path}: {name} at {worst.text} differs from what the simulation gives now; the run was made by another"
                    " version, run it again in another directory"
                )
                raise RunDirectoryError(msg)

    def at(self, index: int) -> FloatArray:
        """Those of one point, in pyhf order; shape (n_toys, n_data)."""
        columns = []
        for name in data_names(self.likelihoods[index]):
            if name == self._bin:
                columns.append(self.windows.counts[:, index])
            elif name == self._of_simulation:
                columns.append(self.windows.simulation[:, index])
            else:
                columns.append(self._constraints[:, self._place[name]])
        return np.column_stack(columns)


def plane_scans(
    search: LoadedSearch, path: Path, points: Sequence[GridPoint], *, n_toys: int, seed: int, n_threads: int = 1
) -> FloatArray:
    """q0 of each toy at each point; shape (n_toys, n_points), NaN where a fit failed."""
    data = DataOfWindows(search, path, points, n_toys=n_toys, seed=seed, n_threads=n_threads)
    scans = np.empty((n_toys, len(points)))

    def scan(index: int) -> None:
        scans[:, index] = q0_of_data(data.likelihoods[index], data.at(index))

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(scan, range(len(points))))
    return scans
