"""The YAML of a submission, read back by the library that HEPData reads it with."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from modelbuilder.errors import BundleError
from modelbuilder.publish.finished_run import finished_run
from modelbuilder.publish.hepdata import Submission, check_submission, number, table_text, write_submission
from modelbuilder.publish.tables import (
    Band,
    Table,
    Variable,
    all_tables,
    effects_of,
    limit_table,
    systematics_tables,
)

from .conftest import WINDOWS, MakeRun, histosys, window


def table(values: tuple[float | str | None, ...], bands: tuple[tuple[Band, ...], ...] = ()) -> Table:
    return Table(
        name="A table",
        file="a_table",
        description="with a: colon, a # and a 'quote'",
        independent=(Variable(name="m", units="GeV", values=tuple(range(1, len(values) + 1))),),
        dependent=(Variable(name="limit", units="GeV^-1", values=values, bands=bands),),
        observable="SIG",
    )


def submission(*tables: Table) -> Submission:
    return Submission(
        comment="x",
        licence="CC0",
        cm_energies=(10.58,),
        reactions=("E+ E- --> X",),
        phrases=("a",),
        resources=(),
        tables=tables,
    )


@pytest.mark.parametrize("value", [1e-5, 1e22, -3e-300, 0.1 + 0.2, 123456789.0, 0.0, -0.0, 1.0, 2.0 / 3.0])
def test_numbers_are_numbers(value: float) -> None:
    """Catches 1e-05, which YAML 1.1 reads as a word, and digits that get lost: six are kept."""
    found = yaml.safe_load(number(value))
    assert isinstance(found, float)
    assert found == float(f"{value:.5e}")


def test_a_table_reads_back() -> None:
    """Catches text that YAML takes for something else, missing values, and bands that are not distances."""
    bands = ((Band("1 sigma", 1.25, 2.125),), (), (Band("1 sigma", 3.0, 3.0),), (Band("1 sigma", 0.0, 4.0),))
    read = yaml.safe_load(table_text(table((1.5, None, 3.0, 0.0), bands)))
    (mass,), (limit,) = read["independent_variables"], read["dependent_variables"]
    assert mass == {"header": {"name": "m", "units": "GeV"}, "values": [{"value": float(i)} for i in (1, 2, 3, 4)]}
    assert limit["header"]["units"] == "GeV$^{-1}$"
    assert limit["values"] == [
        {"value": 1.5, "errors": [{"label": "1 sigma", "asymerror": {"minus": -0.25, "plus": 0.625}}]},
        {"value": "-"},
        {"value": 3.0},  # an error of zero on both sides is not valid
        {"value": 0.0, "errors": [{"label": "1 sigma", "asymerror": {"minus": 0.0, "plus": 4.0}}]},
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    """Catches NaN and infinities, which HEPData's validator lets pass."""
    with pytest.raises(BundleError, match=r"'A table', limit: found a number that is not finite"):
        table_text(table((1.0, bad)))
    with pytest.raises(BundleError, match="not finite"):
        table_text(table((1.0,), ((Band("1 sigma", 0.0, bad),),)))


def test_a_long_table_is_split(tmp_path: Path) -> None:
    """Catches rows that are lost or doubled at the cuts, and parts above the limit."""
    values = tuple(float(i) for i in range(1000))
    write_submission(tmp_path, submission(table(values)), max_table_bytes=10_000)
    check_submission(tmp_path)
    documents = list(yaml.safe_load_all((tmp_path / "submission.yaml").read_text()))[1:]
    assert len(documents) > 2
    found = []
    for document in documents:
        path = tmp_path / document["data_file"]
        assert path.stat().st_size <= 10_000
        found += [row["value"] for row in yaml.safe_load(path.read_text())["dependent_variables"][0]["values"]]
    assert found == list(values)


def test_two_tables_of_one_name(tmp_path: Path) -> None:
    """Catches duplicate names, which HEPData refuses; long names are cut to 64 characters."""
    one = replace(table((1.0,)), name="x" * 64)
    write_submission(tmp_path, submission(one, replace(one, file="another")))
    check_submission(tmp_path)


def test_the_validator_is_asked(tmp_path: Path) -> None:
    """Catches a check that finds everything fine: here a file that nothing refers to, and a column that is too short."""
    write_submission(tmp_path, submission(table((1.0, 2.0))))
    (tmp_path / "loose.txt").write_text("")
    with pytest.raises(BundleError, match=r"the submission is not what HEPData takes: .*loose\.txt"):
        check_submission(tmp_path)
    (tmp_path / "loose.txt").unlink()
    text = (tmp_path / "a_table.yaml").read_text()
    (tmp_path / "a_table.yaml").write_text(text.removesuffix("  - {value: 2.0}\n"))
    with pytest.raises(BundleError, match="not what HEPData takes"):
        check_submission(tmp_path)


def test_limits_of_the_tables_are_those_of_the_run(windows_run: Path, tmp_path: Path) -> None:
    """Reference: value and bands of each row against limits.json, to the six digits that are kept."""
    run = finished_run(windows_run)
    write_submission(tmp_path, submission(*all_tables(run, [], [], None)))
    check_submission(tmp_path)
    compared = 0
    for quantity in ("cross_section_fb", "g_agammagamma_per_gev"):
        for method in run.methods:
            read = yaml.safe_load((tmp_path / f"limit_{quantity}_{method}.yaml").read_text())
            assert [row["value"] for row in read["independent_variables"][0]["values"]] == [1.0, 2.0, 3.0]
            observed, expected = read["dependent_variables"]
            for index, point in enumerate(run.points):
                row = run.row(point, method)
                assert observed["values"][index]["value"] == pytest.approx(row[f"{quantity}_observed"], rel=5e-6)
                median = expected["values"][index]["value"]
                assert median == pytest.approx(row[f"{quantity}_expected"], rel=5e-6)
                for n, error in enumerate(expected["values"][index]["errors"], start=1):
                    ends = [median + error["asymerror"][side] for side in ("minus", "plus")]
                    wanted = [row[f"{quantity}_expected_{side}{n}"] for side in ("m", "p")]
                    assert ends == pytest.approx(wanted, rel=1e-5, abs=1e-9 * median)
                    compared += 1
            names = {item["name"]: item["value"] for item in observed["qualifiers"]}
            assert names["Confidence level"] == 90.0
            assert names["Data"] == "simulated"
    assert compared == 24


def test_a_point_without_limit_has_a_dash(make_run: MakeRun) -> None:
    """Catches a failed point that is left out, or given a number."""
    run = finished_run(make_run(WINDOWS, fail=1))
    (quantity,) = [item for item in run.published_quantities if item.name == "cross_section_fb"]
    found = limit_table(run, quantity, "cls")
    read = yaml.safe_load(table_text(found))
    assert [row["value"] == "-" for row in read["dependent_variables"][0]["values"]] == [False, True, False]
    assert "At 1 of 3 points no limit was found" in found.description


def test_systematics_are_those_of_the_modifiers(windows_run: Path) -> None:
    """Closed form: sizes by hand of every kind of modifier, the spurious signal relative to the signal."""
    spurious = {
        "name": "choice",
        "data": [0.0, 0.0, 0.0],
        "modifiers": [histosys("choice", [0.2, 0.4, 0.2], [-0.1, -0.2, -0.1])],
    }
    found = effects_of(window([1.0, 2.0, 1.0], [3.0, 4.0, 5.0], [3, 4, 6], spurious), frozenset({"choice"}))
    sizes = {key: (effect.kind, effect.size) for key, effect in found.items()}
    assert sizes == {
        ("lumi", "signal"): ("lumi", pytest.approx(0.02)),
        ("trigger", "signal"): ("normsys", pytest.approx(0.05)),
        ("tilt", "signal"): ("histosys", pytest.approx(0.1)),
        ("lumi", "background"): ("lumi", pytest.approx(0.02)),
        ("trigger", "background"): ("normsys", pytest.approx(0.05)),
        ("background_rate", "background"): ("normsys", pytest.approx(1.0 / 3.0)),
        ("staterror_plane", "background"): ("staterror", pytest.approx(0.1 * math.sqrt(9 + 16 + 25) / 12.0)),
        ("choice", "signal"): ("spurious signal", pytest.approx(0.2)),
    }
    run = finished_run(windows_run)
    overview, signal = systematics_tables(run, [effects_of(run.workspace(p), frozenset()) for p in run.points])
    assert overview.independent[0].values.count("trigger") == 2
    assert [variable.name for variable in signal.dependent] == ["lumi", "tilt", "trigger"]
