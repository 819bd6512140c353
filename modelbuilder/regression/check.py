"""Run the tests of a spec: only the grid points that they look at, with everything else as in a full run."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbuilder.errors import UserError
from modelbuilder.histograms.cache import open_cache
from modelbuilder.histograms.templates import from_uhi_json
from modelbuilder.kinematics.shards import available_threads
from modelbuilder.scan.injection import inject
from modelbuilder.scan.lifetimes import lifetime_of
from modelbuilder.scan.plane import WINDOWS
from modelbuilder.scan.points import points_of, searches_of
from modelbuilder.scan.run import Progress, run_search
from modelbuilder.scan.store import TEMPLATES, load_run, versions
from modelbuilder.scan.table import CTAU
from modelbuilder.spec.base import shown
from modelbuilder.spec.expectations import Expectation
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import Loaded, LoadedSearch
from modelbuilder.spec.problems import nearest

BIAS_TOYS = 100
"""`bias` is that of the fit to the expected counts, which no toys enter; so few are thrown."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A test and what came of it.

    points: names of the grid points.    values: found there; None where there is none, `status` says why.
    """

    test: Expectation
    method: str | None
    points: tuple[str, ...]
    values: tuple[float | None, ...]
    statuses: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the expectation holds at all points."""
        if any(value is None for value in self.values):
            return False
        values = [value for value in self.values if value is not None]
        if self.test.monotonic is not None:
            pairs = list(itertools.pairwise(values))
            return all(a < b for a, b in pairs) if self.test.monotonic == "rising" else all(a > b for a, b in pairs)
        if self.test.equals is not None:
            assert self.test.within is not None
            return all(math.isclose(v, self.test.target, rel_tol=0.0, abs_tol=self._room) for v in values)
        low, high = self.test.bounds
        return all(low <= value <= high for value in values)

    @property
    def _room(self) -> float:
        assert self.test.within is not None
        return self.test.within * abs(self.test.target)

    @property
    def name(self) -> str:
        """The quantity, where and how."""
        method = f", {self.method}" if self.method else ""
        where = self.points[0] if len(self.points) == 1 else f"{self.points[0]} ... {self.points[-1]}"
        return f"{self.test.quantity} at {where}{method}"

    @property
    def line(self) -> str:
        """For a person: what was found, what was expected, and by how much it moved."""
        return f"{self.name}: {self._text}"

    @property
    def _text(self) -> str:
        for value, status, point in zip(self.values, self.statuses, self.points, strict=True):
            if value is None:
                return f"nothing found at {point}: {status}"
        found = ", ".join(f"{value:.6g}" for value in self.values)
        test = self.test
        if test.equals is not None:
            moved = ", ".join(_moved(value, test.target) for value in self.values if value is not None)
            return f"{found}; expected {test.target:.6g} within {100.0 * (test.within or 0.0):g} % ({moved})"
        if test.monotonic is not None:
            return f"{found}; expected {test.monotonic}"
        if test.between is not None:
            return f"{found}; expected between {test.bounds[0]:.6g} and {test.bounds[1]:.6g}"
        if test.above is not None:
            return f"{found}; expected above {test.bounds[0]:.6g}"
        return f"{found}; expected below {test.bounds[1]:.6g}"

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "quantity": self.test.quantity,
            "method": self.method,
            "points": list(self.points),
            "found": list(self.values),
            "passed": self.passed,
            "text": self.line,
            "why": self.test.why,
        }


def check_search(
    search: Loaded,
    *,
    jobs: int | None = None,
    only: Sequence[int] | None = None,
    cache: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> list[Checked]:
    """Run the tests of a search, in a temporary run directory. only: indices of those that are run. cache: as of `run_search`.

    Raises UserError where there is no test, or one names what the search does not have.
    """
    tests = [test for index, test in enumerate(search.spec.tests) if only is None or index in only]
    if not tests:
        msg = (
            f"{search.place_of('tests')}: {search.spec.name} has no `tests`; see docs/testing.md for how to write some"
        )
        raise UserError(msg)
    points = [tuple(nearest_point(search, masses) for masses in test.points()) for test in tests]
    if only_signals(search, tests):
        return _efficiencies(search, tests, points, jobs=jobs, cache=cache)
    names = list(dict.fromkeys(point.name for own in points for point in own))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run_search(search, run, only=names, jobs=jobs, cache=cache, progress=progress)
        _, rows = load_run(run)
        return [_checked(search, run, rows, test, own) for test, own in zip(tests, points, strict=True)]


def only_signals(search: Loaded, tests: Sequence[Expectation]) -> bool:
    """Whether tests look at efficiencies alone, for which no background is simulated."""
    alone = isinstance(search, LoadedSearch) and not search.spec.in_plane and search.spec.signal.lifetime is None
    return alone and all(test.kind == "efficiency" for test in tests)


def _efficiencies(
    search: Loaded,
    tests: Sequence[Expectation],
    points: Sequence[tuple[GridPoint, ...]],
    *,
    jobs: int | None,
    cache: Path | None,
) -> list[Checked]:
    """As a run finds them."""
    kept = None if cache is None else open_cache(cache, versions())
    (simulation,) = points_of(search, n_threads=available_threads(jobs), cache=kept).simulations.values()
    found = {
        point: simulation.signal(simulation.region_of(point), point)[1] for point in dict.fromkeys(sum(points, ()))
    }
    return [
        Checked(
            test=test,
            method=None,
            points=tuple(point.name for point in own),
            values=tuple(found[point] for point in own),
            statuses=("ok",) * len(own),
        )
        for test, own in zip(tests, points, strict=True)
    ]


def nearest_point(search: Loaded, masses: Mapping[str, float]) -> GridPoint:
    """The grid point nearest to these masses, GeV. Raises UserError for a name that is not on the grid."""
    known = search.points[0].values
    for name in masses:
        if name not in known:
            msg = f"{search.place_of('tests')}: found {name!r}, which is not on the grid{nearest(name, known)}"
            raise UserError(msg)
    for name in known:
        if name not in masses:
            msg = f"{search.place_of('tests')}: missing: {name}; a test says where on the grid it looks"
            raise UserError(msg)
    spans = {
        name: (max(p.values[name] for p in search.points) - min(p.values[name] for p in search.points)) or 1.0
        for name in known
    }

    def distance(point: GridPoint) -> float:
        return math.hypot(*((point.values[name] - masses[name]) / spans[name] for name in known))

    return min(search.points, key=distance)


def _checked(
    search: Loaded,
    run: Path,
    rows: Sequence[Mapping[str, Any]],
    test: Expectation,
    points: tuple[GridPoint, ...],
) -> Checked:
    is_limit = test.kind in ("expected", "observed", "significance")
    method = (test.method or search.spec.statistics.methods[0]) if is_limit else None
    found = [_value(search, run, rows, test, point.name, method) for point in points]
    return Checked(
        test=test,
        method=method,
        points=tuple(point.name for point in points),
        values=tuple(value for value, _ in found),
        statuses=tuple(status for _, status in found),
    )


def _value(
    search: Loaded,
    run: Path,
    rows: Sequence[Mapping[str, Any]],
    test: Expectation,
    point: str,
    method: str | None,
) -> tuple[float | None, str]:
    """The value at a point, or None and the reason."""
    if test.kind == "yield":
        return _yield(search, run, test.argument, point)
    if test.kind == "bias":
        (found,) = inject(run, points=1, strengths=[test.strength], n_toys=BIAS_TOYS, seed=1, only=[point])
        return (None, found.failure) if found.failure else (found.injections[0].bias, "ok")
    mass = point.partition("_ctau_")[0]  # couplings at their own lifetime have a row of the mass
    own = [row for row in rows if row["point"] in (point, mass) and method in (None, row["method"])]
    if not own:
        methods = ", ".join(search.spec.statistics.methods)
        msg = f"{search.place_of('tests')}: {method} is not a method of the spec, which has {methods}"
        raise UserError(msg)
    column = {"efficiency": "signal_efficiency", "significance": "local_significance"}.get(
        test.kind, f"{test.argument}_{test.kind}"
    )
    row = _row_of(search, own, test.argument)
    if row["status"] != "ok" and test.kind != "efficiency":
        return None, str(row["status"])
    if row.get(column) is None:
        known = sorted(name.removesuffix("_observed") for name in row if name.endswith("_observed"))
        if test.argument in known:
            return None, f"the limit by {method} has no {column}"
        msg = f"{search.place_of('tests')}: there is no limit on {shown(test.argument)}{nearest(test.argument, known)}"
        raise UserError(msg)
    return float(row[column]), "ok"


def _row_of(search: Loaded, rows: Sequence[Mapping[str, Any]], quantity: str) -> Mapping[str, Any]:
    """Of the rows of a point: that of couplings at their own lifetime for such a coupling, that of the shape for the rest."""
    lifetime = lifetime_of(search)
    if lifetime is None:
        return rows[0]
    wanted = None if quantity in _flying(search) else lifetime.usual
    return next((row for row in rows if row.get(CTAU) == wanted), rows[0])


def _flying(search: Loaded) -> set[str]:
    """The couplings that say how far a particle flies."""
    spec = next(iter(searches_of(search).values())).spec
    return {name for name, one in spec.interpretations.items() if one.theory.lifetime is not None}


def _yield(search: Loaded, run: Path, name: str, point: str) -> tuple[float, str]:
    found = templates_at(search, run, point).yields
    known = [
        f"{within}/{background}" if within else background
        for within, one in searches_of(search).items()
        for background in one.spec.backgrounds
    ]
    known = [sample for sample in known if sample in found]
    if name not in known:
        msg = f"{search.place_of('tests')}: found yield({name}); there is no such background{nearest(name, known)}"
        raise UserError(msg)
    return found[name], "ok"


@dataclass(frozen=True)
class TemplatesAt:
    """What a run has written of a point.    text: of the file, or in the plane of its row.    yields: events by template."""

    text: str
    yields: dict[str, float]


def templates_at(search: Loaded, run: Path, point: str) -> TemplatesAt:
    """The templates of a point of a run."""
    folder = run / TEMPLATES
    if not (isinstance(search, LoadedSearch) and search.spec.in_plane):
        text = (folder / f"{point}.json").read_text(encoding="utf-8")
        return TemplatesAt(
            text, {sample: math.fsum(h.values().ravel().tolist()) for sample, h in from_uhi_json(text).items()}
        )
    head, *rows = (folder / WINDOWS).read_text(encoding="utf-8").splitlines()
    text = next(row for row in rows if row.startswith(f"{point},"))
    cells = dict(zip(head.split(","), text.split(","), strict=True))
    return TemplatesAt(text, {name: float(cells[f"{name}_events"]) for name in search.spec.backgrounds})


def _moved(value: float, target: float) -> str:
    return f"{100.0 * (value - target) / abs(target):+.3g} %" if target else f"{value:+.3g}"


def cost_of(search: Loaded, tests: Sequence[Expectation]) -> int:
    """Simulated events for tests of a search: what decides whether they are fast."""
    names = {nearest_point(search, masses).name for test in tests for masses in test.points()}
    return cost_of_points(search, len(names), backgrounds=not only_signals(search, tests))


def cost_of_points(search: Loaded, n_points: int, *, backgrounds: bool = True) -> int:
    """Simulated events for a number of points."""
    total = 0
    for spec in (one.spec for one in searches_of(search).values()):
        nodes = spec.signal.nodes
        total += spec.signal.events * (n_points if nodes is None else len(nodes.pairs))
        if backgrounds:
            total += sum(getattr(background, "events", 0) for background in spec.backgrounds.values())
    return total


def lines(found: Sequence[Checked]) -> Iterator[str]:
    """One line for each test, and why a failure matters."""
    for one in found:
        yield f"{'fine ' if one.passed else 'MOVED'}  {one.line}"
        if not one.passed and one.test.why:
            yield f"       {one.test.why}"
