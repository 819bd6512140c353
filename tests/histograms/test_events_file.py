"""Files of events: what is written is what is read, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from modelbuilder import __version__
from modelbuilder.errors import InputFileError, UserError
from modelbuilder.histograms.events_file import EventsFile, column_name, read_events

UNITS = {"weight": "1", "mu+ E": "GeV", "mu- E": "GeV", "found": "1", "event": "1"}
METADATA: Mapping[str, str | int | float] = {
    "digest": "ab" * 32, "seed": 7, "stream": "signal/m_a=1", "sample": "signal", "point": "m_a=1",
}  # fmt: skip
Arrays = dict[str, npt.NDArray[np.generic]]


def events(n: int) -> Arrays:
    rng = np.random.default_rng(1)
    energies = rng.exponential(1.0, n)
    energies[::7] = np.nan
    return {
        "weight": rng.lognormal(0.0, 1.0, n),
        "mu+ E": energies,
        "mu- E": energies[::-1].copy(),
        "found": rng.random(n) < 0.5,
        "event": np.arange(n),
    }


def write(path: Path, content: Arrays, pieces: list[int], rows_per_group: int = 100) -> Path:
    with EventsFile(path, units=UNITS, metadata=METADATA, rows_per_group=rows_per_group) as file:
        start = 0
        for size in pieces:
            file.write({name: array[start : start + size] for name, array in content.items()})
            start += size
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Invariant: catches a column that is swapped, a piece that is lost at the end of a group, a NaN made to null."""
    content = events(1234)
    table = read_events(write(tmp_path / "new" / "a.parquet", content, [1, 0, 99, 250, 884]))
    assert table.n_events == 1234
    assert list(table.columns) == ["weight", "mu_plus_E", "mu_minus_E", "found", "event"]
    assert dict(table.names) == {column_name(name): name for name in UNITS}
    assert table.units["mu_plus_E"] == "GeV"
    for column, array in table.columns.items():
        expected = content[table.names[column]]
        assert array.dtype == expected.dtype
        assert np.array_equal(array, expected, equal_nan=array.dtype.kind == "f")
    assert dict(table.metadata) == {"version": __version__, **{key: str(value) for key, value in METADATA.items()}}


def test_other_readers_find_names_and_units(tmp_path: Path) -> None:
    """Catches metadata that only our own reader understands: pyarrow alone, as pandas and awkward use it."""
    path = write(tmp_path / "a.parquet", events(250), [250])
    file = pq.ParquetFile(path)
    schema = file.schema_arrow
    assert schema.field("mu_minus_E").metadata == {b"name": b"mu- E", b"unit": b"GeV"}
    assert json.loads(schema.metadata[b"modelbuilder.columns"])["mu_plus_E"] == {"name": "mu+ E", "unit": "GeV"}
    assert schema.metadata[b"modelbuilder.seed"] == b"7"
    assert all(name.isidentifier() for name in schema.names)
    assert file.metadata.num_row_groups == 3  # what is held in memory is one group, not the file
    assert file.read().column("mu_plus_E").null_count == 0


def test_same_content_same_bytes(tmp_path: Path) -> None:
    """Invariant: catches a date or an order in the file, and groups that follow the pieces of the caller."""
    content = events(700)
    contents = [
        write(tmp_path / f"{i}.parquet", content, pieces).read_bytes()
        for i, pieces in enumerate([[700], [700], [350, 350], [7] * 100, [99, 1, 600]])
    ]
    assert contents[0].startswith(b"PAR1")
    assert all(other == contents[0] for other in contents[1:])
    content["weight"][3] = 0.125
    assert write(tmp_path / "other.parquet", content, [700]).read_bytes() != contents[0]


def test_the_caller_may_use_its_arrays_again(tmp_path: Path) -> None:
    """Catches a buffer that keeps views: the first piece would be overwritten by the second."""
    weight = np.zeros(10)
    with EventsFile(tmp_path / "a.parquet", units={"weight": "1"}, metadata={}) as file:
        for value in (1.0, 2.0):
            weight[:] = value
            file.write({"weight": weight})
    assert read_events(tmp_path / "a.parquet").columns["weight"].tolist() == [1.0] * 10 + [2.0] * 10


def test_no_events(tmp_path: Path) -> None:
    """Catches a file that cannot be read, or none, where no event was selected."""
    for name, pieces in (("a", []), ("b", [0])):
        table = read_events(write(tmp_path / f"{name}.parquet", events(0), pieces))
        assert table.n_events == 0
        assert list(table.columns) == [column_name(text) for text in UNITS]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("n", [0, 30, 500])
def test_nothing_half_written(tmp_path: Path, error: type[BaseException], n: int) -> None:
    """Catches half a file, or a temporary one, after a fault or Ctrl-C; and an old file that is lost with it."""
    path = tmp_path / "a.parquet"

    def interrupted() -> None:
        with EventsFile(path, units=UNITS, metadata=METADATA, rows_per_group=100) as file:
            file.write(events(n))
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    write(path, events(10), [10])
    before = path.read_bytes()
    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Catches a traceback for a wrong name, and an hour of simulation before it is noticed."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.parquet").mkdir()
    for name, message in (
        ("a.root", r"a\.root: the suffix is \.root; events are written to a \.parquet file"),
        ("a", r"a: the suffix is missing"),
        ("file/a.parquet", r"file/a\.parquet: cannot be written: "),
        ("folder.parquet", r"folder\.parquet: is a directory"),
    ):
        with (
            pytest.raises(UserError, match=message),
            EventsFile(tmp_path / name, units=UNITS, metadata=METADATA),
        ):
            pytest.fail("it must be noticed before the first event")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.parquet"]


def test_a_full_disk() -> None:
    """Catches a traceback from within pyarrow; /dev/full takes nothing."""
    if not Path("/dev/full").exists():
        pytest.skip("the platform has no /dev/full")
    file = EventsFile(Path("a.parquet"), units={"x": "1"}, metadata={}, rows_per_group=10_000)
    with Path("/dev/full").open("wb", buffering=0) as full:
        file._stream = full
        with pytest.raises(UserError, match=r"a\.parquet: cannot be written: .*No space left"):
            file.write({"x": np.random.default_rng(1).random(100_000)})
        file._abandon()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0]}, r"missing: \['y'\]"),
        ({"x": [1.0], "y": [1.0], "z": [1.0]}, r"not declared: \['z'\]"),
        ({"x": [1.0], "y": [1.0, 2.0]}, r"one length.*x \(1,\), y \(2,\)"),
        ({"x": [[1.0]], "y": [[1.0]]}, "flat"),
        ({"x": [1], "y": [1.0]}, "x float64 then int64"),
    ],
)
def test_columns_that_do_not_fit(tmp_path: Path, columns: dict[str, npt.ArrayLike], message: str) -> None:
    """Catches columns of different events side by side."""
    with EventsFile(tmp_path / "a.parquet", units={"x": "1", "y": "1"}, metadata={}) as file:
        file.write({"x": [1.0], "y": [2.0]})
        with pytest.raises(ValueError, match=message):
            file.write(columns)
    assert read_events(tmp_path / "a.parquet").n_events == 1


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("weight", "weight"),
        ("mu+ E", "mu_plus_E"),
        ("mu- px", "mu_minus_px"),
        ("recoil(mu+ mu-)", "recoil_mu_plus_mu_minus"),
        ("K*0 E", "K_star0_E"),
        ("K*(892)0 theta", "K_star_892_0_theta"),
        ("A' E", "A_prime_E"),
        ("gamma#2 E", "gamma_2_E"),
        ("mass2(gamma gamma)", "mass2_gamma_gamma"),
        ("2E/m_tau", "c_2E_over_m_tau"),
        ("--", "minus_minus"),
        ("π0", "c_0"),
        ("", "c"),
    ],
)
def test_column_names(text: str, column: str) -> None:
    """Catches a name that is no identifier, and a charge that is lost: mu+ and mu- would be one column."""
    assert column_name(text) == column
    assert column.isidentifier()


def test_names_that_collide(tmp_path: Path) -> None:
    """Catches one column that silently takes the place of another."""
    with pytest.raises(UserError, match=r"'mu E' and 'mu_E' would both be the column mu_E"):
        EventsFile(tmp_path / "a.parquet", units={"mu E": "GeV", "mu_E": "GeV"}, metadata={})


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    """Catches a traceback from a foreign file."""
    import pyarrow as pa

    (tmp_path / "text.parquet").write_text("not Parquet")
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "foreign.parquet")
    for name, message in (("none", "no such file"), ("text", "not a readable"), ("foreign", "not of our events")):
        with pytest.raises(InputFileError, match=message):
            read_events(tmp_path / f"{name}.parquet")
