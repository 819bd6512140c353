"""Local and global significances of a run: how likely background alone is to show as large an excess anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelbuilder.errors import RunDirectoryError
from modelbuilder.histograms.templates import FloatArray
from modelbuilder.inference.scan_significance import (
    GlobalSignificance,
    global_significance_from_toys,
    global_significance_from_upcrossings,
    toy_scans,
)
from modelbuilder.kinematics.shards import stream_key
from modelbuilder.scan.plane_toys import plane_scans
from modelbuilder.scan.shared_toys import SharedToys, Windows
from modelbuilder.scan.store import load_run
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import Loaded, LoadedSearch

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ScanSignificance:
    """The largest excess of a run.

    point: where it is.    n_points: that were tested.    by_toys, by_upcrossings: two ways to the same; the second only for
    points that follow each other on a line, along one mass.
    """

    point: GridPoint
    n_points: int
    by_toys: GlobalSignificance
    by_upcrossings: GlobalSignificance | None

    def as_dict(self) -> Json:
        """As JSON takes it; infinite edges are None."""

        def plain(found: GlobalSignificance) -> Json:
            p, z = found.global_p_value, found.global_significance
            return {
                "p_value": p.value,
                "p_value_interval": [p.lower, p.upper],
                "significance": _finite(z.value),
                "significance_interval": [_finite(z.lower), _finite(z.upper)],
                "scans": found.n_scans,
                "counted": found.n_counted,
                "failed": found.n_failed,
            }

        crossings = self.by_upcrossings
        return {
            "point": self.point.name,
            "masses_gev": self.point.values,
            "ctau_cm": self.point.ctau,
            "points": self.n_points,
            "local_p_value": self.by_toys.local_p_value,
            "local_significance": self.by_toys.local_significance,
            "toys": plain(self.by_toys),
            "upcrossings": None
            if crossings is None
            else {**plain(crossings), "reference_level": crossings.reference_level},
        }

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield f"largest of {self.n_points} points: {self.point.text}"
        yield f"local significance   {self.by_toys.local_significance:.2f} (p-value {self.by_toys.local_p_value:.3g})"
        toys, crossings = self.by_toys, self.by_upcrossings
        ways = [("global, toys", toys, f"{toys.n_counted} of {toys.n_scans} toys have as large an excess")]
        if crossings is not None:
            counted = f"{crossings.n_counted} upcrossings in {crossings.n_scans} toys"
            ways.append(("global, upcrossings", crossings, counted))
        for name, found, counted in ways:
            p, z = found.global_p_value, found.global_significance
            if p.value >= 0.5:
                yield f"{name:20} none: background alone shows as much with p-value {p.value:.3g}: {counted}"
                continue
            bound = " at least" if p.value == 0.0 else ""
            yield (
                f"{name:20}{bound} {z.value:.2f} ({z.lower:.2f} to {z.upper:.2f}; p-value {p.value:.3g},"
                f" {p.lower:.3g} to {p.upper:.3g}): {counted}"
            )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def scan_significance(path: Path, *, n_toys: int, seed: int, n_threads: int = 1) -> ScanSignificance:
    """The significance of the largest excess in a run directory; the same for any number of threads.

    Raises RunDirectoryError where there are fewer than two points with a significance, and FitFailure where too many
    toys cannot be fitted.
    """
    loaded, rows = load_run(path)
    known = (row for row in rows if row["status"] == "ok" and row.get("local_significance") is not None)
    q0 = {row["point"]: float(row["local_significance"]) ** 2 for row in known}
    points = [point for point in loaded.points if point.name in q0]
    if len(points) < 2:
        msg = f"{path}: {len(points)} points have a local significance; a global one needs at least two"
        raise RunDirectoryError(msg)
    ordered, toys = _scans(loaded, path, points, n_toys=n_toys, seed=seed, n_threads=n_threads)
    observed = np.array([q0[point.name] for point in ordered])
    by_toys = global_significance_from_toys(observed, toys)
    found = ordered[by_toys.point]
    on_a_line = len(found.masses) == 1 and found.ctau is None
    return ScanSignificance(
        point=found,
        n_points=len(ordered),
        by_toys=by_toys,
        by_upcrossings=global_significance_from_upcrossings(observed, toys) if on_a_line else None,
    )


def _scans(
    loaded: Loaded, path: Path, points: Sequence[GridPoint], *, n_toys: int, seed: int, n_threads: int
) -> tuple[list[GridPoint], FloatArray]:
    """The points, those that share toys together, and q0 of the toys at each; shape (n_toys, n_points)."""
    if isinstance(loaded, LoadedSearch) and loaded.spec.in_plane:
        return list(points), plane_scans(loaded, path, points, n_toys=n_toys, seed=seed, n_threads=n_threads)
    windows = Windows(loaded)
    scans, ordered = [], []
    for name, here in windows.groups(points).items():
        shared = SharedToys(windows, path, here)
        scans.append(
            toy_scans(
                shared.likelihoods,
                shared.common,
                seed=stream_key(seed, f"significance/{name}")[0],
                n_toys=n_toys,
                selections=shared.selections,
                n_threads=n_threads,
            )
        )
        ordered += here
    return ordered, np.concatenate(scans, axis=1)


def to_json(found: ScanSignificance) -> str:
    """The text of `significance.json`."""
    return json.dumps(found.as_dict(), indent=1, allow_nan=False) + "\n"
