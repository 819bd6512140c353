"""Data and backgrounds from files in a spec: what is refused, word for word, and the details of HEPData and UHI tables."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from modelbuilder.errors import InputFileError
from modelbuilder.histograms.simulate import Simulation
from modelbuilder.spec.check_file import check_file
from modelbuilder.spec.input_files import MAX_FILE_BYTES, read_hepdata, read_uhi
from modelbuilder.spec.load import load_search, resolve
from modelbuilder.spec.schema import schemas
from modelbuilder.spec.starting import write_archetype
from modelbuilder.spec.tree import load_tree, plain

Write = Callable[..., Path]
EVENTS = "{parquet: e.parquet, observables: {mass(gamma gamma): {column: m, unit: MeV}}, source: assumption}"
HISTOGRAM = "{root: d.root, histogram: good, unit: GeV, source: assumption}"
TABLE = "{table: {low: [0 GeV], high: [3 GeV], events: [5]}, source: assumption}"


@pytest.fixture
def folder(tmp_path: Path, from_files: Write) -> Path:
    """Small files of all kinds beside the spec."""
    specs = from_files().parent
    m = np.linspace(1.0, 2900.0, 20)
    columns = {"m": m, "w": np.r_[-1.0, np.ones(19)], "bad": np.r_[np.ones(5), np.nan, np.ones(14)]}
    pq.write_table(pa.table({**columns, "label": ["x"] * 20, "null": [None, *m[1:].tolist()]}), specs / "e.parquet")
    edges = np.linspace(0.0, 3.0, 31)
    with uproot.recreate(specs / "d.root") as file:
        file["good"] = (np.ones(30), edges)
        for name, value in (("nan", np.nan), ("negative", -1.0), ("part", 0.5)):
            file[name] = (np.r_[1.0, value, np.ones(28)], edges)
        file["two"] = (np.ones((3, 4)), np.arange(4.0), np.arange(5.0))
        file["three"] = np.histogramdd(np.ones((5, 3)), bins=2)
        file.mktree("events", {"m": "float64"}).extend({"m": m})
    (specs / "d.csv").write_text("low,high,n\n0,1,1\n1,2,2\n2,3,3\n", encoding="utf-8")
    return specs


CASES: list[tuple[str, str, str]] = [
    (
        "no such column",
        EVENTS.replace("column: m,", "column: m_gg,"),
        "parquet: found 'e.parquet': there is no 'm_gg'; the columns are 'm', 'w', 'bad', 'label', 'null'",
    ),
    (
        "text in a column",
        EVENTS.replace("column: m,", "column: label,"),
        "parquet: found 'e.parquet': the column 'label' holds string; expected one number for each event",
    ),
    (
        "not a number",
        EVENTS.replace("column: m,", "column: bad,"),
        "parquet: found 'e.parquet': 'bad' has 1 values that are not finite, the first is nan in row 6",
    ),
    (
        "missing values",
        EVENTS.replace("column: m,", "column: 'null',"),
        "parquet: found 'e.parquet': 'null' has 1 missing values; leave out the events that have none",
    ),
    (
        "negative weights of data",
        EVENTS.replace("source", "weight: w, source"),
        "weight: found -1 in row 1 of 'w'; data have no negative weights",
    ),
    (
        "wrong unit of a column",
        EVENTS.replace("MeV", "cm"),
        "observables.mass(gamma gamma).unit: found '1 cm': 'cm' is not the unit of an energy; expected for example '0.2 GeV'",
    ),
    (
        "no observable",
        EVENTS.replace("mass(", "mas("),
        "observables.mas(gamma gamma): mas(gamma gamma): unknown observable 'mas'; did you mean mass?",
    ),
    (
        "not the observable of the channel",
        EVENTS.replace("mass(gamma gamma)", "mass(K+ gamma)"),
        "observables: found mass(K+ gamma); missing: mass(gamma gamma), the observable of the channel",
    ),
    (
        "a cut without a column",
        EVENTS.replace("source", "cuts: [{quantity: mbc(B+), above: 5 GeV, source: assumption}], source"),
        "cuts[0]: found no column for 'mbc(B+)', which is cut on; name it in `observables`",
    ),
    (
        "outside of the tree",
        EVENTS.replace("e.parquet", "../../e.parquet"),
        "parquet: found '../../e.parquet', which lies outside of HERE; move it there, or allow more with --root",
    ),
    (
        "no such file",
        EVENTS.replace("e.parquet", "f.parquet"),
        "parquet: found 'f.parquet': no such file; it is looked up from HERE",
    ),
    (
        "a tree that is not named",
        EVENTS.replace("parquet: e.parquet", "root: d.root"),
        "tree: missing; say which TTree, or RNTuple, of the file",
    ),
    (
        "a histogram for a tree",
        EVENTS.replace("parquet: e.parquet", "root: d.root, tree: good"),
        "root: found 'd.root': 'good' is a TH1D; expected a TTree or RNTuple",
    ),
    (
        "a tree for a histogram",
        HISTOGRAM.replace("good", "events"),
        "root: found 'd.root': 'events' is a TTree; expected a histogram of one or two axes, TH1 or TH2",
    ),
    (
        "no such histogram",
        HISTOGRAM.replace("good", "goo"),
        "root: found 'd.root': there is no 'goo'; the objects are 'good', 'nan', 'negative', 'part', 'two', 'three', 'events'; did you mean 'good'?",
    ),
    (
        "three axes",
        HISTOGRAM.replace("good", "three"),
        "root: found 'd.root': 'three' is a TH3D; expected a histogram of one or two axes, TH1 or TH2",
    ),
    (
        "a content that is not a number",
        HISTOGRAM.replace("good", "nan"),
        "root: found 'd.root': found the content nan in the bin from 0.1 to 0.2; expected a finite number",
    ),
    (
        "negative data",
        HISTOGRAM.replace("good", "negative"),
        "table.events: found -1 events in row 2; data are numbers of events, 0 at least",
    ),
    (
        "data that are not whole",
        HISTOGRAM.replace("good", "part"),
        "table.events: found 0.5 events in row 2; data are whole numbers, write `weighted: true` if these are sums of weights",
    ),
    (
        "two axes for one observable",
        HISTOGRAM.replace("good, unit: GeV", "two, unit: [GeV, GeV]"),
        "table: found bins of two observables; the channel has one observable",
    ),
    ("one unit for two axes", HISTOGRAM.replace("good", "two"), "unit: found 'GeV'; expected a unit for each axis, 2"),
    (
        "no unit",
        HISTOGRAM.replace(", unit: GeV", ""),
        "missing: unit; the root file does not say in which its axes are, as in {unit: GeV}",
    ),
    (
        "another dimension",
        HISTOGRAM.replace("GeV", "deg"),
        "table.low[0]: found '0.0 deg': 'deg' is not the unit of an energy; expected for example '0.2 GeV'",
    ),
    (
        "a column that is not there",
        "{csv: d.csv, columns: {low: low, high: high, events: m}, units: {low: GeV, high: GeV, events: ''}, source: assumption}",
        "columns.events: found 'm'; d.csv has the columns low, high, n",
    ),
    (
        "no file",
        "{unit: GeV, source: assumption}",
        "found no file; name one file with csv, root, uhi or hepdata, or events with parquet or root",
    ),
    ("a gap", TABLE.replace("[0 GeV]", "[0 GeV, 2 GeV]").replace("[3 GeV]", "[1 GeV, 3 GeV]").replace("[5]", "[5, 5]"),
     "table.low: found a gap: a bin ends at 1, and the next one begins at 2"),
    ("a bin that falls", TABLE.replace("[3 GeV]", "[-1 GeV]"), "table.high: found high -1 at low 0 (row 1); a bin ends above where it begins"),
    (
        "bins twice",
        TABLE.replace("[0 GeV]", "[0 GeV, 0 GeV]").replace("[3 GeV]", "[3 GeV, 3 GeV]").replace("[5]", "[5, 5]"),
        "table: found 2 rows for 1 bins; each bin needs one row",
    ),
    (
        "points at unequal distances",
        "{table: {at: [0 GeV, 1 GeV, 3 GeV], events: [1, 2, 3]}, source: assumption}",
        "table.at: found points that are not equally far apart; give the edges of their bins, `low` and `high`",
    ),
    (
        "another digest",
        EVENTS.replace("source", f"sha256: {'a' * 64}, source"),
        f"sha256: found '{'a' * 64}'; the SHA-256 of e.parquet is DIGEST",
    ),
    (
        "not a Parquet file",
        EVENTS.replace("e.parquet", "d.csv"),
        "parquet: found 'd.csv': not a readable Parquet file, or cut short; ArrowInvalid: REASON",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_message(data: str, expected: str, folder: Path, from_files: Write) -> None:
    """Catches a refusal that comes at another line than that of the spec, without the remedy, or with others behind it."""
    path = from_files(data)
    line = 1 + next(
        i for i, text in enumerate(path.read_text(encoding="utf-8").splitlines()) if text.startswith("data:")
    )
    (problem,) = check_file(path).problems
    assert (problem.file, problem.line) == (str(path), line)
    message = f"{problem.path}: {problem.message}".replace(str(folder), "HERE")
    message = re.sub(r"is [0-9a-f]{64}", "is DIGEST", re.sub(r"ArrowInvalid: .*", "ArrowInvalid: REASON", message))
    expected = f"data.files.diphoton{': ' if expected.startswith(('missing', 'found no file')) else '.'}{expected}"
    assert message == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            {"data": "{kind: observed, files: {dipoton: " + EVENTS + "}}"},
            [
                "data.files: missing: diphoton; each channel needs its own",
                "data.files.dipoton: found 'dipoton', which is not a channel; did you mean 'diphoton'?",
            ],
        ),
        ({"data": "{kind: observed}"}, ["data.files: missing; expected for each channel a histogram, or events with the columns of the observables"]),
        (
            {"background": TABLE},
            ["backgrounds.combinatorial.files.diphoton.luminosity: missing; expected that of the file, from which the events are scaled to that of the search"],
        ),
        (
            {"background": TABLE.replace("[5]", "[-5]").replace("source", "luminosity: 1 fb^-1, source")},
            ["backgrounds.combinatorial.files.diphoton.table.events: found -5 events in row 1; what is expected is 0 at least, merge it with its neighbour"],
        ),
        (
            {"systematics": "{lumi: {kind: luminosity, also: [combinatorial]}}"},
            ["systematics.lumi.also[0]: 'combinatorial' is simulated: it has this uncertainty anyway; remove it from the list"],
        ),
        ({"systematics": "{lumi: {kind: luminosity, also: [combinatorial]}}", "shape": "stated"}, []),
        (
            {"systematics": "{x: {kind: shape, vary: photons.energy_scale, size: 1 %, on: [combinatorial], source: assumption}}"},
            ["systematics.x.on[0]: nothing of 'combinatorial' is simulated, so it has no shape to vary; remove it from the list"],
        ),
        (
            {"shape": "{bernstein: 2, source: assumption}"},
            ["backgrounds.combinatorial.rate: a Bernstein shape has free coefficients; write `rate: free`"],
        ),
        (
            {"shape": "simulated\n    events: 1000"},
            ["backgrounds.combinatorial.events: found events and files; a background is simulated, stated or from files, remove one of them"],
        ),
        (
            {"data": EVENTS, "selection": "[{quantity: mbc(B+), above: 5 GeV, where: m_a < 1.5 GeV, source: assumption}]"},
            [
                f"{path}: the cuts of diphoton change with the mass, 2 sets of them, and what is in the file knows one; give {what}, or a channel for each set"
                for path, what in (
                    ("backgrounds.combinatorial.files.diphoton", "the events, with `cuts: selection`"),
                    ("data.files.diphoton", "events with `cuts: selection`"),
                )
            ],
        ),
        (
            {"channel": "{observable: mass(gamma gamma), range: [0 GeV, 1.5 GeV], bins: 3, window: 4 resolution, resolution: {value: 0.1 GeV}, source: assumption}"},
            ["channels.diphoton.range: the grid point at 2 GeV lies outside of it"],
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_search(
    parts: dict[str, str], expected: list[str], folder: Path, from_files: Write
) -> None:
    """Catches inputs without a channel, and systematics that act on nothing."""
    assert folder.is_dir()
    found = check_file(from_files(**parts)).problems
    assert [f"{problem.path}: {problem.message}" for problem in found] == expected


def test_a_file_that_is_too_large(folder: Path, from_files: Write) -> None:
    """Catches memory that a file of a gigabyte takes before it is refused; this one takes no room on the disk."""
    with (folder / "large.parquet").open("wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)
    (problem,) = check_file(from_files(EVENTS.replace("e.parquet", "large.parquet"))).problems
    assert problem.message == (
        "found 'large.parquet': larger than 500 MB; keep the events and columns that are needed, or fill a histogram"
    )


def test_no_code_is_made_from_a_root_file(folder: Path, from_files: Write) -> None:
    """The version of a class is one that uproot has no model of. Catches Python that is written from what a file says."""
    with uproot.recreate(folder / "new.root", compression=None) as file:
        file["good"] = (np.ones(30), np.linspace(0.0, 3.0, 31))
    raw = (folder / "new.root").read_bytes()
    header = re.compile(rb"(@\x00..\x00)\x03(@\x00..\x00\x08)", re.DOTALL)  # TH1D, version 3, and the TH1 in it
    assert len(header.findall(raw)) == 1
    assert not check_file(from_files(HISTOGRAM.replace("d.root", "new.root"))).problems
    (folder / "new.root").write_bytes(header.sub(b"\\1\x09\\2", raw))
    (problem,) = check_file(from_files(HISTOGRAM.replace("d.root", "new.root"))).problems
    assert problem.message == (
        "found 'new.root': it has a 'TH1D' of version 9, which uproot knows only by code made from the file; write it anew"
    )


@pytest.mark.parametrize("command", ["validate", "run"])
def test_the_command_line_refuses_before_it_writes(command: str, folder: Path, from_files: Write) -> None:
    """Catches a traceback, another exit code than 2, and a run directory that was begun."""
    csv = "{csv: d.csv, columns: {low: low, high: high, events: n}, units: {low: GeV, high: GeV, events: ''}, source: assumption}"
    arguments = [command, str(from_files(csv)), *(["-o", str(folder / "out")] if command == "run" else [])]
    done = subprocess.run(
        [sys.executable, "-m", "modelbuilder", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = (done.stdout if command == "validate" else done.stderr).splitlines()
    assert "the channel has a bin edge at 0.1 GeV, within the bin from 0 to 1 GeV of the histogram" in line
    assert line.endswith("with this range, `bins: 3` or `bins: 1` would fit")
    assert not (folder / "out").exists()


HEAD = "independent_variables:\n- header: {name: M, units: GEV}\n  values: [{low: 0, high: 1}, {low: 1, high: 3}]\n"


def hepdata(tmp_path: Path, values: str, *, head: str = HEAD) -> Path:
    """A table with one dependent variable."""
    path = tmp_path / "table.yaml"
    path.write_text(f"{head}dependent_variables:\n- header: {{name: N}}\n  values: {values}\n", encoding="utf-8")
    return path


def test_errors_of_a_hepdata_table(tmp_path: Path) -> None:
    """By hand: a symmetric error in per cent, an asymmetric one, and one of two by its label."""
    values = (
        "[{value: 50, errors: [{label: stat, symerror: 10 %}, {label: sys, symerror: 1}]},"
        " {value: '4.5', errors: [{label: stat, asymerror: {minus: -1, plus: 3}}]}]"
    )
    found = read_hepdata(hepdata(tmp_path, values), {}, "stat")
    assert found.values.tolist() == [50.0, 4.5]
    assert found.variances is not None
    assert np.sqrt(found.variances).tolist() == [5.0, 2.0]
    assert (found.edges[0].tolist(), found.units) == ([0.0, 1.0, 3.0], ("GeV",))
    with pytest.raises(InputFileError, match=r"row 1 has the errors 'stat', 'sys'; say with `error` which"):
        read_hepdata(hepdata(tmp_path, values), {}, None)
    with pytest.raises(InputFileError, match="no error has the label 'statistical'"):
        read_hepdata(hepdata(tmp_path, values), {}, "statistical")


def test_two_variables_of_a_hepdata_table(tmp_path: Path) -> None:
    """By hand: rows in any order. Catches values in the order of the file."""
    head = (
        "independent_variables:\n"
        "- header: {name: M, units: MEV}\n  values: [{value: 15}, {value: 5}, {value: 5}, {value: 15}]\n"
        "- header: {name: T, units: DEG}\n  values: [{low: 0, high: 1}, {low: 0, high: 1}, {low: 1, high: 3}, {low: 1, high: 3}]\n"
    )
    found = read_hepdata(hepdata(tmp_path, "[{value: 1}, {value: 2}, {value: 3}, {value: 4}]", head=head), {}, None)
    assert [edges.tolist() for edges in found.edges] == [[0.0, 10.0, 20.0], [0.0, 1.0, 3.0]]
    assert found.values.tolist() == [[2.0, 3.0], [1.0, 4.0]]
    assert (found.units, found.variances) == (("MeV", "deg"), None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("[{value: 1}, {value: '-'}]", r"row 2 has no value \('-'\)"),
        ("[{value: 1}, {value: x}]", "not a data table of HEPData: ValueError: could not convert string to float: 'x'"),
        ("[{value: 1}]", "found 1 values for 2 bins"),
        ("[1, 2]", "not a data table of HEPData: TypeError"),
        ("5", "not a data table of HEPData: TypeError"),
    ],
)
def test_hepdata_tables_that_are_none(values: str, message: str, tmp_path: Path) -> None:
    """Catches what would be a traceback, or a bin that is silently empty."""
    with pytest.raises(InputFileError, match=message):
        read_hepdata(hepdata(tmp_path, values), {}, None)


def test_uhi_histograms_that_are_none(tmp_path: Path) -> None:
    """Catches what would be a traceback, and numbers that are not finite."""
    axis = {"type": "regular", "lower": 0, "upper": 1, "bins": 2, "underflow": True, "overflow": False}
    good = {"axes": [axis], "storage": {"type": "double", "values": [9.0, 1.0, 2.0]}}
    documents = {
        "x": (good, None),
        "short": ({**good, "storage": {"type": "double", "values": [1.0]}}, "axis 1 has 3 bins"),
        "mean": ({**good, "storage": {"type": "mean", "values": [1.0]}}, "its storage is 'mean'"),
        "category": ({**good, "axes": [{"type": "category_str", "categories": ["a"]}]}, "an axis is 'category_str'"),
        "nothing": ({}, "KeyError: 'storage'"),
        "large": ({**good, "axes": [{**axis, "bins": 10**12}]}, "found 1000000000000 bins; at most 10000 are read"),
        "list": ([], "TypeError"),
    }
    path = tmp_path / "x.json"
    path.write_text(json.dumps({name: document for name, (document, _) in documents.items()}), encoding="utf-8")
    for name, (_, message) in documents.items():
        if message is None:
            assert read_uhi(path, name).values.tolist() == [1.0, 2.0]
        else:
            with pytest.raises(InputFileError, match=message):
                read_uhi(path, name)
    with pytest.raises(InputFileError, match=r"there is no 'y'; the histograms are 'x', 'short'"):
        read_uhi(path, "y")
    for text, message in (('{"x": NaN}', "found NaN"), ("[" * 100000, "not valid JSON"), ("[]", "not a file of UHI")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputFileError, match=message):
            read_uhi(path, "x")


def test_the_example_of_the_page_works(tmp_path: Path) -> None:
    """Catches an example in docs/spec.md that is refused where bins are merged, or by the schema, as it is written or resolved."""
    page = (Path(__file__).parents[2] / "docs" / "spec.md").read_text(encoding="utf-8")
    example = page.split("## Data and backgrounds from files\n")[1].split("```yaml\n")[1].split("```")[0]
    write_archetype("spectrum", tmp_path / "spectrum.yaml")
    (tmp_path / "data").mkdir()
    pq.write_table(
        pa.table({"x": [0.51, 1.02, 1.51], "pt_e": [400.0, 600.0, 700.0]}), tmp_path / "data" / "events.parquet"
    )
    rows = "".join(f"{0.025 * bin_:.4g}, {0.025 * (bin_ + 1):.4g}, 6, 3\n" for bin_ in range(80))
    (tmp_path / "data" / "other_taus.csv").write_text(f"x_low, x_high, n, dn\n{rows}", encoding="utf-8")
    path = tmp_path / "example.yaml"
    path.write_text(f"extends: spectrum.yaml\n{example}", encoding="utf-8")
    search = load_search(path)
    validator = jsonschema.Draft7Validator(schemas()["search.schema.json"])
    for instance in (plain(load_tree(path).root), plain(resolve(path)[0])):
        assert [error.message for error in validator.iter_errors(instance)] == []
    simulation = Simulation(search)
    (region,) = simulation.regions.values()
    assert np.flatnonzero(simulation.observed(region)).tolist() == [20, 30]
    template = simulation.from_files("other_taus", region).nominal
    scale = search.spec.luminosity.value / 1000.0
    assert template.values == pytest.approx(np.full(40, 12.0 * scale))
    assert template.variances == pytest.approx(np.full(40, 18.0 * scale**2))
