"""Reading the files of data and backgrounds: ROOT, UHI JSON, HEPData tables, Parquet. All of them are untrusted.

Files are read as a whole, up to a size; what their libraries stumble over is one error with one sentence. Nothing of a
file is evaluated: objects and columns are found by their exact names.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import InputFileError, SpecError
from modelbuilder.spec.base import shown
from modelbuilder.spec.problems import nearest
from modelbuilder.spec.tree import load_tree, plain

FloatArray = npt.NDArray[np.float64]

MAX_FILE_BYTES = 500_000_000
MAX_EVENTS = 20_000_000
MAX_BINS = 10_000
_MOST_SHOWN = 12


@dataclass(frozen=True)
class ReadHistogram:
    """One or two axes, each of shape (n + 1,); values and variances of shape (n,) or (n, m); units where they are known."""

    edges: tuple[FloatArray, ...]
    values: FloatArray
    variances: FloatArray | None
    units: tuple[str, ...] | None


def content_of(path: Path) -> bytes:
    """A file of at most `MAX_FILE_BYTES` bytes. Raises InputFileError."""
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            content = stream.read(MAX_FILE_BYTES + 1) if size <= MAX_FILE_BYTES else b""
    except OSError as error:
        msg = f"cannot be read: {error.strerror or error}"
        raise InputFileError(msg) from None
    if max(size, len(content)) > MAX_FILE_BYTES:
        msg = (
            f"larger than {MAX_FILE_BYTES / 1e6:g} MB; keep the events and columns that are needed, or fill a histogram"
        )
        raise InputFileError(msg)
    return content


def digest_of_content(content: bytes) -> str:
    """SHA-256, as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


# ------------------------------------------------------------------------------------------------------------ histograms


def read_root_histogram(path: Path, name: str) -> ReadHistogram:
    """A TH1 or TH2 of a ROOT file. Raises InputFileError."""
    with _root(path) as file:
        found = _object(file, name)
        kind = str(getattr(found, "classname", type(found).__name__))
        if kind not in {f"TH{number}{letter}" for number in (1, 2) for letter in "CSIFDL"}:
            msg = f"{name!r} is a {kind}; expected a histogram of one or two axes, TH1 or TH2"
            raise InputFileError(msg)
        for axis in found.axes:  # before an array is made of what a file says
            _check_number_of_bins(int(axis.member("fNbins")))
        values, variances = found.values(), found.variances()
        edges = [axis.edges() for axis in found.axes]
    return _checked(edges, values, variances, None)


def read_uhi(path: Path, name: str) -> ReadHistogram:
    """A histogram of a UHI file (schema 1). Raises InputFileError."""

    def refuse(constant: str) -> None:
        msg = f"found {constant}; numbers of a histogram are finite"
        raise InputFileError(msg)

    try:
        document = json.loads(content_of(path).decode("utf-8"), parse_constant=refuse)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, InputFileError):
            raise
        msg = f"not valid JSON: {str(error) or type(error).__name__}"
        raise InputFileError(msg) from None
    if not isinstance(document, dict):
        msg = "not a file of UHI histograms, which has them by name"
        raise InputFileError(msg)
    if name not in document:
        raise InputFileError(_unknown(name, document, "histograms"))
    try:
        return _from_uhi(document[name])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, InputFileError):
            raise
        msg = f"{name!r} is not a UHI histogram: {type(error).__name__}: {error}"
        raise InputFileError(msg) from None


def _from_uhi(histogram: Any) -> ReadHistogram:
    storage = histogram["storage"]
    if storage["type"] not in ("int", "double", "weighted") or "index" in storage:
        msg = f"its storage is {shown(storage['type'])}; expected int, double or weighted, with all bins"
        raise ValueError(msg)
    edges, inner, units = [], [], []
    for axis in histogram["axes"]:
        if axis["type"] == "regular":
            _check_number_of_bins(int(axis["bins"]))
            edges.append(np.linspace(float(axis["lower"]), float(axis["upper"]), int(axis["bins"]) + 1))
        elif axis["type"] == "variable":
            edges.append(np.array(axis["edges"], dtype=float))
        else:
            msg = f"an axis is {shown(axis['type'])}; expected regular or variable"
            raise ValueError(msg)
        flows = [int(bool(axis.get(key, False))) for key in ("underflow", "overflow")]
        inner.append(slice(flows[0], flows[0] + len(edges[-1]) - 1))
        units.append(str((axis.get("metadata") or {}).get("units", "?")))
        flow_shape = len(edges[-1]) - 1 + sum(flows)
        if np.shape(storage["values"])[len(inner) - 1] != flow_shape:
            msg = f"found {np.shape(storage['values'])} values; axis {len(inner)} has {flow_shape} bins"
            raise ValueError(msg)
    take = tuple(inner)
    values = np.array(storage["values"], dtype=float)[take]
    variances = np.array(storage["variances"], dtype=float)[take] if storage["type"] == "weighted" else None
    known = tuple("" if unit == "1" else unit for unit in units)
    return _checked(edges, values, variances, None if "?" in known else known)


def read_hepdata(path: Path, columns: Mapping[str, str], error: str | None) -> ReadHistogram:
    """A table of HEPData: bins or points of one or two independent variables, and one dependent variable.

    columns: headers, of `at` and `second` among the independent variables, of `events`; where there is one choice they may
    be absent.    error: label of the errors, where there are several. Raises InputFileError, SpecError.
    """
    parsed = load_tree(path)
    if parsed.problems:
        raise SpecError(parsed.problems)
    table = plain(parsed.root)
    try:
        return _from_hepdata(table, columns, error)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as fault:
        if isinstance(fault, InputFileError):
            raise
        msg = f"not a data table of HEPData: {type(fault).__name__}: {fault}"
        raise InputFileError(msg) from None


def _from_hepdata(table: Mapping[str, Any], columns: Mapping[str, str], label: str | None) -> ReadHistogram:
    unknown = [key for key in columns if key not in ("at", "second", "events")]
    if unknown:
        msg = f"found the column {unknown[0]!r}; of a HEPData table there are at, second and events"
        raise InputFileError(msg)
    independent, dependent = table["independent_variables"], table["dependent_variables"]
    if "at" not in columns and len(independent) == 2:
        axes = list(independent)
    else:
        wanted = ["at", *(["second"] if "second" in columns else [])]
        axes = [_variable(independent, columns.get(key), "independent") for key in wanted]
    values, errors = _dependent(_variable(dependent, columns.get("events"), "dependent"), label)
    edges, places = [], []
    for axis in axes:
        own, place = _hepdata_axis(axis["values"])
        edges.append(own)
        places.append(place)
    shape = tuple(len(one) - 1 for one in edges)
    if math.prod(shape) != len(values) or any(len(place) != len(values) for place in places):
        msg = f"found {len(values)} values for {' times '.join(map(str, shape))} bins; each bin needs one"
        raise InputFileError(msg)
    flat = np.ravel_multi_index(tuple(places), shape)
    if len(np.unique(flat)) != len(flat):
        msg = "found a bin twice"
        raise InputFileError(msg)
    order = np.argsort(flat)
    units = tuple(_hepdata_unit(axis["header"].get("units", "?")) for axis in axes)
    return _checked(
        edges,
        values[order].reshape(shape),
        None if errors is None else np.square(errors)[order].reshape(shape),
        None if "?" in units else units,
    )


def _variable(variables: Sequence[Mapping[str, Any]], name: str | None, kind: str) -> Mapping[str, Any]:
    headers = [str(variable["header"]["name"]) for variable in variables]
    known = f"the {kind} variables are {', '.join(map(repr, headers[:_MOST_SHOWN])) or 'none'}"
    key = "events" if kind == "dependent" else "at"
    if name is None:
        if len(variables) != 1:
            msg = f"{known}; say which in `columns`, as in {{{key}: {shown(headers[0] if headers else '')}}}"
            raise InputFileError(msg)
        return variables[0]
    if headers.count(name) != 1:
        msg = f"found {shown(name)}, which is there {headers.count(name)} times; {known}"
        raise InputFileError(msg)
    return variables[headers.index(name)]


def _hepdata_axis(values: Sequence[Mapping[str, Any]]) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Edges, and the bin of each value; points stand in the middle of bins of one width."""
    if all("low" in value and "high" in value for value in values):
        lows, highs = (np.array([_number(value[key]) for value in values]) for key in ("low", "high"))
        starts, first = np.unique(lows, return_index=True)
        edges = np.append(starts, highs[first][-1])
        gaps = np.abs(highs[first][:-1] - starts[1:]) > 1e-3 * np.diff(edges)[:-1]
        if gaps.any():
            at = int(np.argmax(gaps))
            msg = f"a bin ends at {highs[first][at]:g}, and the next one begins at {starts[at + 1]:g}"
            raise InputFileError(msg)
        return edges, np.searchsorted(starts, lows)
    centres = np.array([_number(value["value"]) for value in values])
    points = np.unique(centres)
    steps = np.diff(points)
    if len(points) < 2 or float(np.ptp(steps)) > 1e-3 * float(steps.min()):
        msg = "its points are not equally far apart, so that nobody knows their bins; a table with `low` and `high` has them"
        raise InputFileError(msg)
    return points[0] + float(steps.mean()) * (np.arange(len(points) + 1) - 0.5), np.searchsorted(points, centres)


def _dependent(variable: Mapping[str, Any], label: str | None) -> tuple[FloatArray, FloatArray | None]:
    values, errors = [], []
    for row, value in enumerate(variable["values"], start=1):
        if value["value"] == "-":
            msg = f"row {row} has no value ('-')"
            raise InputFileError(msg)
        number = _number(value["value"])
        values.append(number)
        found = value.get("errors") or []
        if label is not None:
            found = [error for error in found if error.get("label") == label]
        if len(found) > 1:
            labels = ", ".join(repr(error.get("label", "")) for error in found)
            msg = f"row {row} has the errors {labels}; say with `error` which is the statistical one"
            raise InputFileError(msg)
        errors.append(_size_of(found[0], number) if found else None)
    if label is not None and not any(error is not None for error in errors):
        msg = f"no error has the label {label!r}"
        raise InputFileError(msg)
    if all(error is None for error in errors):
        return np.array(values), None
    return np.array(values), np.array([0.0 if error is None else error for error in errors])


def _size_of(error: Mapping[str, Any], value: float) -> float:
    """Of a symmetric error, or the mean of both sides of another."""
    if "symerror" in error:
        return abs(_number(error["symerror"], value))
    both = error["asymerror"]
    return 0.5 * (abs(_number(both["plus"], value)) + abs(_number(both["minus"], value)))


def _number(value: Any, of: float = math.nan) -> float:
    """A number, which HEPData may write as text, or as per cent of a value."""
    text = str(value).strip()
    number = 0.01 * float(text[:-1]) * of if text.endswith("%") else float(text)
    if isinstance(value, bool) or not math.isfinite(number):
        msg = f"found {shown(value)}; expected a finite number"
        raise InputFileError(msg)
    return number


def _hepdata_unit(unit: Any) -> str:
    """As HEPData writes it, `GEV**2`, in our words."""
    text = str(unit).replace("**", "^").replace("GEV", "GeV").replace("MEV", "MeV").replace("TEV", "TeV")
    return text.replace("/c^2", "").replace("/C^2", "").replace("DEG", "deg").replace("RAD", "rad")


def _checked(edges: Sequence[FloatArray], values: Any, variances: Any, units: tuple[str, ...] | None) -> ReadHistogram:
    """With finite numbers in bins that rise."""
    axes = tuple(np.array(one, dtype=np.float64) for one in edges)
    if not 1 <= len(axes) <= 2:
        msg = f"found {len(axes)} axes; expected one or two"
        raise InputFileError(msg)
    numbers = np.array(values, dtype=np.float64)
    shape = tuple(len(one) - 1 for one in axes)
    if numbers.shape != shape or numbers.size == 0:
        msg = f"found contents of shape {numbers.shape} in bins of shape {shape}"
        raise InputFileError(msg)
    _check_number_of_bins(numbers.size)
    squares = None if variances is None else np.array(variances, dtype=np.float64)
    if any(not np.all(np.isfinite(one)) or not np.all(np.diff(one) > 0.0) for one in axes):
        msg = "found bin edges that are not finite, or do not rise"
        raise InputFileError(msg)
    if squares is not None and (squares.shape != shape or np.any(squares < 0.0)):
        msg = "found variances that are negative, or not one for each bin"
        raise InputFileError(msg)
    for what, found in (("content", numbers), ("variance", squares)):
        if found is not None and not np.all(np.isfinite(found)):
            place = np.argwhere(~np.isfinite(found))[0]
            where = " and ".join(f"{axis[i]:g} to {axis[i + 1]:g}" for axis, i in zip(axes, place, strict=True))
            msg = f"found the {what} {found[tuple(place)]} in the bin from {where}; expected a finite number"
            raise InputFileError(msg)
    return ReadHistogram(axes, numbers, squares, units)


def _check_number_of_bins(number: int) -> None:
    if number > MAX_BINS:
        msg = f"found {number} bins; at most {MAX_BINS} are read, give the events in their place"
        raise InputFileError(msg)


# ---------------------------------------------------------------------------------------------------------------- events


def read_columns(content: bytes, names: Sequence[str], *, tree: str | None) -> dict[str, FloatArray]:
    """Columns of the events in a Parquet file, or in a TTree of a ROOT file. Raises InputFileError.

    Each is of shape (n_events,) and finite.
    """
    found = _parquet_columns(content, names) if tree is None else _tree_columns(content, names, tree)
    for name, column in found.items():
        bad = ~np.isfinite(column)
        if bad.any():
            row = int(np.argmax(bad))
            msg = (
                f"{name!r} has {int(bad.sum())} values that are not finite, the first is {column[row]} in row {row + 1}"
            )
            raise InputFileError(msg)
    return found


def _parquet_columns(content: bytes, names: Sequence[str]) -> dict[str, FloatArray]:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with _faults_of("Parquet"):
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        schema, number = file.schema_arrow, int(file.metadata.num_rows)
        _check_columns(names, list(schema.names), number)
        for name in names:
            kind = schema.field(name).type
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
                msg = f"the column {name!r} holds {str(kind)[:60]}; expected one number for each event"
                raise InputFileError(msg)
        table = file.read(columns=list(names))
        found = {}
        for name in names:
            column = table.column(name)
            if column.null_count:
                msg = f"{name!r} has {column.null_count} missing values; leave out the events that have none"
                raise InputFileError(msg)
            found[name] = np.asarray(column.to_numpy(), dtype=np.float64)
    return found


def _tree_columns(content: bytes, names: Sequence[str], tree: str) -> dict[str, FloatArray]:
    with _root_content(content) as file:
        found = _object(file, tree)
        if not hasattr(found, "num_entries") or not hasattr(found, "keys"):
            kind = str(getattr(found, "classname", type(found).__name__))
            msg = f"{tree!r} is a {kind}; expected a TTree or RNTuple"
            raise InputFileError(msg)
        number = int(found.num_entries)
        _check_columns(names, [str(key) for key in found.keys()], number)  # noqa: SIM118  not a dictionary
        columns = {}
        for name in names:
            values = found[name].array(library="np")
            if values.dtype == object or values.ndim != 1 or values.dtype.kind not in "iufb":
                msg = f"the branch {name!r} holds {values.dtype} of {values.ndim} dimensions; expected one number for each event"
                raise InputFileError(msg)
            if len(values) != number:
                msg = f"the branch {name!r} holds {len(values)} values for {number} events"
                raise InputFileError(msg)
            columns[name] = values.astype(np.float64)
    return columns


def _check_columns(names: Sequence[str], known: Sequence[str], number: int) -> None:
    for name in names:
        if known.count(name) != 1:
            raise InputFileError(_unknown(name, known, "columns"))
    if number > MAX_EVENTS:
        msg = f"found {number} events; at most {MAX_EVENTS} are read, fill a histogram of them"
        raise InputFileError(msg)


def _unknown(name: str, known: Sequence[str] | Mapping[str, Any], what: str) -> str:
    names = [str(one) for one in known]
    few = ", ".join(shown(one) for one in names[:_MOST_SHOWN])
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    close = nearest(name, names)
    hint = close if "did you mean" in close and len(names) > 1 else ""
    return f"there is no {shown(name)}; the {what} are {few or 'none'}{more}{hint}"


# ------------------------------------------------------------------------------------------------------------- libraries


@contextmanager
def _root(path: Path) -> Iterator[Any]:
    with _root_content(content_of(path)) as file:
        yield file


@contextmanager
def _root_content(content: bytes) -> Iterator[Any]:
    """An open ROOT file. Raises InputFileError, also for what is not readable of it in the block."""
    if find_spec("uproot") is None:
        msg = "ROOT files are read with uproot, which is not installed; `pip install 'modelbuilder[root]'` brings it"
        raise InputFileError(msg)
    import uproot

    with _faults_of("ROOT"), uproot.open(io.BytesIO(content)) as file:
        end = int(file.file.fEND)
        if end > len(content):
            msg = f"cut short: it has {len(content)} of {end} bytes"
            raise InputFileError(msg)
        file.file.streamer_named = _no_code_from_files
        yield file


def _no_code_from_files(name: str, version: object = "max") -> None:
    """In place of what uproot does with a class that it has no model of: write Python from its description, and run it."""
    msg = f"it has a {shown(name)} of version {version}, which uproot knows only by code made from the file; write it anew"
    raise InputFileError(msg)


def _object(file: Any, name: str) -> Any:
    """By its exact name, with or without its cycle."""
    with_cycle = [str(key) for key in file.keys(cycle=True)]
    known = list(dict.fromkeys(key.rpartition(";")[0] for key in with_cycle))
    if name not in known and name not in with_cycle:
        raise InputFileError(_unknown(name, known, "objects"))
    return file[name]


@contextmanager
def _faults_of(kind: str) -> Iterator[None]:
    """Whatever a library meets in a damaged file, as one sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputFileError:
        raise
    except Exception as error:  # noqa: BLE001  libraries raise what they stumble over: struct, zlib, index, key errors
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
        msg = f"not a readable {kind} file, or cut short; {reason}"
        raise InputFileError(msg) from None


HISTOGRAM_READERS: Mapping[str, Callable[[Path, str], ReadHistogram]] = {
    "root": read_root_histogram,
    "uhi": read_uhi,
}
