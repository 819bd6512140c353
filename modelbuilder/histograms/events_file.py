"""Simulated events in a Parquet file, written piece by piece, whole or not at all.

Columns are flat, one number per event, with names that are identifiers, so that `df.mu_plus_E` in pandas,
`events.mu_plus_E` in awkward, and `Histo1D("mu_plus_E")` of ROOT's RDataFrame work. The names they were made from, and
their units, are in the file: as metadata of each column (`name`, `unit`), and all together as JSON in the metadata of the
file, key `modelbuilder.columns`. What else was told about the events is there as `modelbuilder.seed` and the like.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from modelbuilder import __version__
from modelbuilder.errors import InputFileError, UserError

SUFFIX = ".parquet"
ROWS_PER_GROUP = 1 << 17
_PREFIX = "modelbuilder."
_COLUMNS = "columns"
_WORDS = {"+": "_plus", "-": "_minus", "*": "_star", "'": "_prime", "~": "_bar", "/": "_over_", "^": "_to_"}


def column_name(text: str) -> str:
    """An identifier from any name: `mu+ E` gives `mu_plus_E`, `recoil(mu+ mu-)` gives `recoil_mu_plus_mu_minus`.

    Signs become words (+ plus, - minus, * star, ' prime, ~ bar, / over, ^ to), all else that is no letter, digit or
    underscore becomes one underscore, with none at the ends; `c_` goes before what does not begin with a letter. Two
    names may give one, which `EventsFile` refuses.
    """
    spelled = "".join(_WORDS.get(letter, letter) for letter in text)
    name = re.sub(r"[^A-Za-z0-9]+", "_", spelled).strip("_")
    return name if name[:1].isalpha() else f"c_{name}".rstrip("_")


@dataclass(frozen=True, kw_only=True)
class EventsTable:
    """A file of events that was read.

    columns: arrays of shape (n_events,) by column name.
    names: what each column was called when it was written.    units: "1" for numbers without one.
    metadata: everything else that the file says of its events, as text.
    """

    columns: Mapping[str, npt.NDArray[Any]]
    names: Mapping[str, str]
    units: Mapping[str, str]
    metadata: Mapping[str, str]

    @property
    def n_events(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0


class EventsFile:
    """A Parquet file that appears when the `with` block ends well, and never if it does not.

        with EventsFile(path, units={"weight": "1", "mu+ E": "GeV"}, metadata={"seed": 1}) as file:
            for piece in pieces:
                file.write({"weight": piece.weights, "mu+ E": piece.energies})

    units: of the columns in their order, by names of any kind (see `column_name`); "1" for numbers without unit.
    metadata: facts about all events; the version of modelbuilder is added.
    rows_per_group: of a row group, which is what is held in memory; pieces may have any length.

    The bytes are a function of the content, whatever the pieces it came in, for one version of pyarrow.

    Raises UserError for another suffix, for names that collide, and where the file cannot be written. Faults of the
    caller, columns of unequal length or another type, are ValueErrors.
    """

    def __init__(
        self,
        path: Path,
        *,
        units: Mapping[str, str],
        metadata: Mapping[str, str | int | float],
        rows_per_group: int = ROWS_PER_GROUP,
    ) -> None:
        if path.suffix != SUFFIX:
            msg = f"{path}: the suffix is {path.suffix or 'missing'!s}; events are written to a {SUFFIX} file"
            raise UserError(msg)
        if not units or rows_per_group < 1:
            msg = f"events file: {len(units)} columns, {rows_per_group} rows per group; at least one of each"
            raise ValueError(msg)
        self.path = path
        self.n_events = 0
        self._units = dict(units)
        self._columns = _column_names(self._units)
        self._metadata = {"version": __version__, **{key: str(value) for key, value in metadata.items()}}
        self._rows_per_group = rows_per_group
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._waiting: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in units}
        self._n_waiting = 0
        self._types: dict[str, np.dtype[Any]] = {}
        self._stream: Any = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        if self.path.is_dir():
            msg = f"{self.path}: is a directory; give the name of a {SUFFIX} file"
            raise UserError(msg)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._temporary.open("wb")
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as fault:
            raise self._unwritable(fault) from None
        finally:
            self._abandon()

    def write(self, columns: Mapping[str, npt.ArrayLike]) -> None:
        """Append events: one array of shape (n,) for each column, by the names that were given for `units`."""
        if self._stream is None:
            msg = "events file: write within a `with` block"
            raise ValueError(msg)
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        if arrays.keys() != self._units.keys():
            missing, unknown = self._units.keys() - arrays.keys(), arrays.keys() - self._units.keys()
            msg = f"events file: columns missing: {sorted(missing)}, not declared: {sorted(unknown)}"
            raise ValueError(msg)
        if len({array.shape for array in arrays.values()}) > 1 or any(array.ndim != 1 for array in arrays.values()):
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            msg = f"events file: columns must be of one length, and flat; found {shapes}"
            raise ValueError(msg)
        types = {name: array.dtype for name, array in arrays.items()}
        self._types = self._types or types
        if types != self._types:
            changed = ", ".join(
                f"{name} {self._types[name]} then {types[name]}" for name in types if types[name] != self._types[name]
            )
            msg = f"events file: the type of a column changes: {changed}"
            raise ValueError(msg)
        n = len(next(iter(arrays.values())))
        for name, array in arrays.items():
            self._waiting[name].append(array.copy())  # callers may fill the same array again
        self._n_waiting += n
        self.n_events += n
        try:
            self._write_groups(least=self._rows_per_group)
        except OSError as error:
            raise self._unwritable(error) from None

    def _write_groups(self, *, least: int) -> None:
        """Write what is waiting, in groups of the same number of rows, while there are `least` rows."""
        if self._n_waiting < least:
            return
        import pyarrow as pa  # type: ignore[import-untyped]

        whole = {name: np.concatenate(parts) for name, parts in self._waiting.items()}
        start = 0
        while self._n_waiting - start >= least and start < self._n_waiting:
            stop = min(start + self._rows_per_group, self._n_waiting)
            schema = self._schema(pa)
            table = pa.table([pa.array(whole[name][start:stop]) for name in self._units], schema=schema)
            self._opened(schema).write_table(table, row_group_size=self._rows_per_group)
            start = stop
        self._waiting = {name: [array[start:].copy()] for name, array in whole.items()}
        self._n_waiting -= start

    def _schema(self, pa: Any) -> Any:
        fields = [
            pa.field(
                self._columns[name],
                pa.from_numpy_dtype(self._types.get(name, np.dtype(np.float64))),
                nullable=False,
                metadata={"name": name, "unit": unit},
            )
            for name, unit in self._units.items()
        ]
        known = {self._columns[name]: {"name": name, "unit": unit} for name, unit in self._units.items()}
        about = {**self._metadata, _COLUMNS: json.dumps(known, ensure_ascii=False)}
        return pa.schema(fields, metadata={_PREFIX + key: value for key, value in about.items()})

    def _opened(self, schema: Any) -> Any:
        if self._writer is None:
            import pyarrow.parquet as pq  # type: ignore[import-untyped]

            # no dictionaries: nearly all numbers differ
            self._writer = pq.ParquetWriter(self._stream, schema, compression="zstd", use_dictionary=False)
        return self._writer

    def _finish(self) -> None:
        self._write_groups(least=1)
        if self._writer is None:
            import pyarrow as pa

            self._opened(self._schema(pa))  # no events: a file with columns and no rows
        self._writer.close()
        self._writer = None
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._temporary.replace(self.path)

    def _abandon(self) -> None:
        """Close what is open and remove the temporary file, if it is still there."""
        for part in (self._writer, self._stream):
            with contextlib.suppress(OSError):  # a full disk: the file goes anyway
                if part is not None:
                    part.close()
        self._writer = self._stream = None
        self._temporary.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"{self.path}: cannot be written: {error.strerror or error}")


def read_events(path: Path) -> EventsTable:
    """Read a file that `EventsFile` has written, all of it. Raises InputFileError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        msg = f"{path}: no such file"
        raise InputFileError(msg)
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        msg = f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}"
        raise InputFileError(msg) from None
    about = {key.decode("utf-8"): value.decode("utf-8") for key, value in (table.schema.metadata or {}).items()}
    ours = {key.removeprefix(_PREFIX): value for key, value in about.items() if key.startswith(_PREFIX)}
    try:
        known = {str(column): dict(facts) for column, facts in json.loads(ours.pop(_COLUMNS)).items()}
        names = {column: str(known[column]["name"]) for column in table.column_names}
        units = {column: str(known[column]["unit"]) for column in table.column_names}
    except (KeyError, ValueError, TypeError, AttributeError):
        msg = f"{path}: a Parquet file, but not of our events: it does not say what its columns are"
        raise InputFileError(msg) from None
    columns = {column: table.column(column).to_numpy() for column in table.column_names}
    return EventsTable(columns=columns, names=names, units=units, metadata=ours)


def _column_names(names: Mapping[str, str]) -> dict[str, str]:
    """Column by name; no two may be the same, also for readers that know no capitals."""
    columns = {name: column_name(name) for name in names}
    owners: dict[str, str] = {}
    for name, column in columns.items():
        other = owners.setdefault(column, name)
        if other != name:
            msg = f"events file: {other!r} and {name!r} would both be the column {column}; rename one of them"
            raise UserError(msg)
    return columns
