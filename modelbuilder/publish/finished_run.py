"""A finished run, as what is published needs it: the table of limits as it stands, and what the spec says about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from modelbuilder.errors import RunDirectoryError
from modelbuilder.scan.lifetimes import lifetime_of
from modelbuilder.scan.points import experiments_of, searches_of
from modelbuilder.scan.store import RUN, SPEC, TEMPLATES, WORKSPACES, load_run
from modelbuilder.scan.table import BANDS, CTAU
from modelbuilder.spec.load import Loaded, LoadedCombination, LoadedSearch
from modelbuilder.spec.search import SearchSpec, SpuriousSignal
from modelbuilder.workspace.files import read_json

_OBSERVED = "_observed"
_ON = " on: "
_INTERNAL = ("mu", "yield_events")
"""Limited quantities that mean nothing without the workspace, or the efficiency, beside them."""


@dataclass(frozen=True)
class Column:
    """A column of `limits.json`."""

    name: str
    unit: str
    description: str


@dataclass(frozen=True)
class LimitedQuantity:
    """A quantity that limits are given on; columns are its name with `_observed`, `_expected` and so on."""

    name: str
    unit: str
    description: str

    @property
    def is_coupling(self) -> bool:
        return not self.name.endswith(("_fb", "_events")) and self.name not in ("mu", "branching_fraction", "ratio")


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run directory that is complete.

    about: `run.json`.    columns, rows: of `limits.json`.    search: the search, or combination, that was run.
    own_lifetimes: the rows of couplings at the lifetime that they give themselves, where lifetimes are scanned; these are
    not among `rows`.
    """

    path: Path
    about: Mapping[str, Any]
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]
    search: Loaded
    own_lifetimes: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def points(self) -> tuple[str, ...]:
        """Names of the grid points, in the order of the grid."""
        return tuple(dict.fromkeys(str(row["point"]) for row in self.rows))

    @cached_property
    def grid(self) -> tuple[Column, ...]:
        """The columns that say where a point is: those between its name and its channel."""
        names = [column.name for column in self.columns]
        return self.columns[names.index("point") + 1 : names.index("channel")]

    @cached_property
    def head(self) -> dict[str, Mapping[str, Any]]:
        """One row of each point, for what does not depend on the method: at the lifetime of its shape, if it has several."""
        return {str(row["point"]): row for row in reversed(self.rows) if self._has_the_shape(row)}

    def _has_the_shape(self, row: Mapping[str, Any]) -> bool:
        lifetime = None if isinstance(self.search, LoadedCombination) else self.search.spec.signal.lifetime
        return lifetime is None or lifetime.shape_at is None or row[CTAU] == lifetime.shape_at

    @cached_property
    def searches(self) -> Mapping[str, LoadedSearch]:
        """Those of a combination by name; of a search itself, by an empty one."""
        return searches_of(self.search)

    @property
    def first(self) -> SearchSpec:
        """The spec of the search, or of the first one of a combination."""
        return next(iter(self.searches.values())).spec

    @property
    def experiments(self) -> str:
        """`Belle II`, or `BaBar + Belle II`."""
        return experiments_of(self.search)

    @property
    def sqrt_s(self) -> tuple[float, ...]:
        """Nominal energies of the collisions, GeV, each once."""
        return tuple(dict.fromkeys(round(one.spec.experiment.beams.sqrt_s, 3) for one in self.searches.values()))

    def rows_of(self, quantity: str, method: str) -> tuple[Mapping[str, Any], ...]:
        """The rows with limits on a quantity: of each lifetime, or at the one that a coupling gives itself."""
        one = self.first.interpretations.get(quantity)
        own = self.own_lifetimes and one is not None and one.theory.lifetime is not None
        return tuple(row for row in (self.own_lifetimes if own else self.rows) if row["method"] == method)

    def of_own_lifetimes(self, quantity: str, method: str) -> bool:
        """Whether the limits on a quantity are couplings at the lifetime that each gives itself."""
        rows = self.rows_of(quantity, method)
        return bool(rows) and rows[0] in self.own_lifetimes

    @cached_property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(row["method"]) for row in self.rows))

    @cached_property
    def quantities(self) -> tuple[LimitedQuantity, ...]:
        """All limited quantities, in the order of the columns."""
        found = []
        for column in self.columns:
            if column.name.endswith(_OBSERVED):
                name = column.name.removesuffix(_OBSERVED)
                found.append(LimitedQuantity(name, column.unit, column.description.split(_ON)[-1] or name))
        return tuple(found)

    @property
    def published_quantities(self) -> tuple[LimitedQuantity, ...]:
        return tuple(quantity for quantity in self.quantities if quantity.name not in _INTERNAL)

    @property
    def confidence_level(self) -> float:
        return float(self.rows[0]["confidence_level"])

    @property
    def data(self) -> str:
        """`observed`, `pseudo:SEED` or `asimov`."""
        return str(self.rows[0]["data"])

    @property
    def data_text(self) -> str:
        """What stands in every table about the data."""
        kind, _, seed = self.data.partition(":")
        if kind == "pseudo":
            return f"The data are simulated: pseudo-data without signal (seed {seed}), not measured events."
        if kind == "asimov":
            return "The data are the expected background itself (Asimov data), not measured events."
        return "The data are measured."

    @cached_property
    def reference(self) -> Column:
        """What a signal strength of 1 stands for, by its column: a rate, or the coupling of a combination."""
        if isinstance(self.search, LoadedSearch):
            name, kind = self.search.spec.rate.reference, str(self.search.spec.rate.kind)
        else:
            name, kind = f"reference_{self.search.spec.parameter}", "coupling"
        unit = next(column.unit for column in self.columns if column.name == name)
        return Column(name, unit, kind)

    @property
    def signal_samples(self) -> frozenset[str]:
        """Samples that stand for the signal without its signal strength: the spurious signals."""
        rows = (item for one in self.searches.values() for item in one.spec.systematics.items())
        return frozenset(name for name, systematic in rows if isinstance(systematic, SpuriousSignal))

    @property
    def points_text(self) -> str:
        """`4 of 652 grid points`."""
        grid = int(self.about["points"]["grid"])
        return f"{len(self.points)} {'' if grid == len(self.points) else f'of {grid} '}grid points"

    def values_of(self, point: str) -> tuple[float, ...]:
        """Masses, and whatever else the grid runs over."""
        row = self.head[point]
        return tuple(float(row[column.name]) for column in self.grid)

    def grid_of(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
        """The columns that say where rows are: without the lifetime, where it is that of a coupling."""
        return tuple(column for column in self.grid if any(row.get(column.name) is not None for row in rows))

    def row(self, point: str, method: str) -> Mapping[str, Any]:
        return self._by_method[point, method]

    @cached_property
    def _by_method(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        return {(str(row["point"]), str(row["method"])): row for row in self.rows if self._has_the_shape(row)}

    def workspace(self, point: str) -> dict[str, Any]:
        """The workspace of a point as the run wrote it. Raises InputFileError."""
        found = read_json(self.path / WORKSPACES / f"{point}.json")
        assert isinstance(found, dict)
        return found

    def edges(self, point: str) -> tuple[tuple[float, ...], ...]:
        """Bin edges of the fit regions of a point, one tuple per axis; nothing where no templates were kept."""
        path = self.path / TEMPLATES / f"{point}.json"
        if not path.is_file():
            return ()
        observed = [item for name, item in read_json(path).items() if name.rpartition("/")[2] == "observation"]
        return tuple(_edges_of(axis) for histogram in observed for axis in histogram.get("axes", ()))

    def bands(self, row: Mapping[str, Any], quantity: str) -> Iterator[tuple[str, float | None]]:
        for band in ("observed", *BANDS):
            value = row.get(f"{quantity}_{band}")
            yield band, None if value is None else float(value)


def finished_run(path: Path) -> FinishedRun:
    """The run in a directory. Raises RunDirectoryError if it is none, is not finished, or has no limits."""
    search, _ = load_run(path)
    about = read_json(path / RUN)
    if not about.get("finished"):
        msg = f"{path}: the run was stopped before its end; give the command of {RUN} again, then publish"
        raise RunDirectoryError(msg)
    if not (path / "limits.json").is_file():
        msg = f"{path}: holds no limits; `modelbuilder run` makes them, `modelbuilder build` does not"
        raise RunDirectoryError(msg)
    table = read_json(path / "limits.json")
    if table.get("digest") != about["digest"] or search.digest != about["digest"]:
        msg = f"{path}: limits.json, {SPEC} and {RUN} belong to different specs; a run is published as it was made"
        raise RunDirectoryError(msg)
    flies = lifetime_of(search) is not None
    run = FinishedRun(
        path=path,
        about=about,
        columns=tuple(Column(**column) for column in table["columns"]),
        rows=tuple(row for row in table["rows"] if not flies or row[CTAU] is not None),
        search=search,
        own_lifetimes=tuple(row for row in table["rows"] if flies and row[CTAU] is None),
    )
    for point in run.points:
        if not (path / WORKSPACES / f"{point}.json").is_file():
            msg = f"{path}: {WORKSPACES}/{point}.json is missing, but limits.json has a limit for it; run it again"
            raise RunDirectoryError(msg)
    return run


def _edges_of(axis: Mapping[str, Any]) -> tuple[float, ...]:
    if "edges" in axis:
        return tuple(axis["edges"])
    if "bins" not in axis:
        return ()
    lower, upper, bins = float(axis["lower"]), float(axis["upper"]), int(axis["bins"])
    return tuple(lower + (upper - lower) * index / bins for index in range(bins + 1))
