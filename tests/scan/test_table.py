"""The table of limits: columns, units, missing values, and numbers that belong together."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from modelbuilder.inference.choice import LimitRequest
from modelbuilder.scan.limited import cells_of, proportional
from modelbuilder.scan.store import load_run
from modelbuilder.scan.table import MU, columns, tail_of_search, to_csv, to_json
from modelbuilder.scan.target import limit_of, targets_at
from modelbuilder.spec.rates import RATES

BANDS = ["observed", "expected_m2", "expected_m1", "expected", "expected_p1", "expected_p2"]
HEAD = ["point", "m_a_gev", "channel", "method", "confidence_level", "status", "data", "local_significance"]
QUANTITIES = ["mu", "yield_events", "visible_cross_section_fb", "cross_section_fb", "g_agammagamma_per_gev"]

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def rows(small_run: Path) -> Rows:
    with (small_run / "limits.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_columns_are_those_of_the_contract(rows: Rows) -> None:
    """Catches a column that others read and that has moved, changed its name, or lost its unit; extra ones come last."""
    expected = [*HEAD, *(f"{quantity}_{band}" for quantity in QUANTITIES for band in BANDS)]
    assert list(rows[0])[: len(expected)] == expected


def test_one_row_per_point_and_method(rows: Rows) -> None:
    """Catches rows that are missing, doubled or in another order than the grid."""
    found = [(float(row["m_a_gev"]), row["method"]) for row in rows]
    masses = sorted({mass for mass, _ in found})
    assert len(masses) == 4
    assert found == [(mass, method) for mass in masses for method in ("profile-likelihood", "cls")]
    assert {row["data"] for row in rows} == {"pseudo:2018"}
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["confidence_level"] for row in rows} == {"0.95"}
    assert [row["channel"] for row in rows] == ["diphoton"] * 6 + ["recoil"] * 2


def test_numbers_are_in_full_precision(small_run: Path, rows: Rows) -> None:
    """Invariant: catches rounding: the CSV, the JSON and the journal hold the same floats."""
    _, table = load_run(small_run)
    journal = [json.loads(line) for line in (small_run / "points.jsonl").read_text(encoding="utf-8").splitlines()]
    from_journal = [row for entry in journal for row in entry["rows"]]
    for in_csv, in_json, entry in zip(rows, table, from_journal, strict=True):
        assert set(in_csv) == set(in_json) >= set(entry)
        for name, value in in_json.items():
            assert value == entry.get(name)
            if isinstance(value, float):
                assert float(in_csv[name]) == value
            else:
                assert in_csv[name] == ("" if value is None else value)


def test_quantities_belong_together(small_run: Path, rows: Rows) -> None:
    """Reference: coupling from the cross section in closed form; yield and cross section from mu by the row's own numbers."""
    search, _ = load_run(small_run)
    s = search.spec.experiment.beams.sqrt_s**2
    for row in rows:
        mass, reference = float(row["m_a_gev"]), float(row["reference_cross_section_fb"])
        per_g2 = 3.893793721e11 / 137.035999084 / 24.0 * (1.0 - mass**2 / s) ** 3  # fb GeV^2
        ratios = set()
        for band in BANDS:
            mu, cross_section = float(row[f"mu_{band}"]), float(row[f"cross_section_fb_{band}"])
            assert cross_section == pytest.approx(mu * reference, rel=1e-12)
            coupling = float(row[f"g_agammagamma_per_gev_{band}"])
            assert coupling == pytest.approx(math.sqrt(cross_section / per_g2), rel=1e-9)
            if mu > 0.0:
                ratios.add(round(float(row[f"yield_events_{band}"]) / mu, 9))
        (yield_at_one,) = ratios
        assert yield_at_one == pytest.approx(reference * 0.445 * float(row["signal_efficiency"]), rel=1e-6)


def test_bands_are_in_order(rows: Rows) -> None:
    """Invariant: catches bands that are swapped; and CLs limits, which are never below those without CLs."""
    for row in rows:
        for quantity in QUANTITIES:
            band = [float(row[f"{quantity}_{name}"]) for name in BANDS[1:]]
            assert band == sorted(band)
            assert band[2] > 0.0
    for one_sided, cls in zip(rows[::2], rows[1::2], strict=True):
        for band in BANDS:
            assert float(cls[f"mu_{band}"]) >= float(one_sided[f"mu_{band}"])


def test_units_and_descriptions(small_run: Path) -> None:
    """Catches a column that a reader of limits.json would have to guess."""
    document = json.loads((small_run / "limits.json").read_text(encoding="utf-8"))
    about = {column["name"]: column for column in document["columns"]}
    assert list(about) == list(document["rows"][0])
    assert all(column["description"] for column in about.values())
    units = {name: column["unit"] for name, column in about.items()}
    assert units["m_a_gev"] == "GeV"
    assert units["mu_observed"] == ""
    assert units["yield_events_expected"] == "events"
    assert units["cross_section_fb_expected_m2"] == "fb"
    assert units["g_agammagamma_per_gev_observed"] == "GeV^-1"
    assert document["digest"] == load_run(small_run)[0].digest
    assert document["sources"]["assumption"] > 0


def test_missing_is_empty() -> None:
    """Catches NaN, None or a shifted column for a point that failed."""
    head = columns(["m_a"], (MU,), tail_of_search(RATES["cross section"]))
    good = {
        "point": "p1",
        "m_a_gev": 1.0,
        "status": "ok",
        **cells_of([proportional(MU, 1.0)], 0.1, [1.0, 2.0, 3.0, 4.0, 1e-17])[0],
    }
    bad = {"point": "p2", "m_a_gev": 2.0, "status": "not-converged"}
    text = to_csv(head, [good, bad])
    first, second, third = text.splitlines()
    assert first.split(",") == [column["name"] for column in head]
    assert "0.1,1.0,2.0,3.0,4.0,1e-17" in second
    assert third == "p2,2.0,,,,not-converged" + "," * (len(head) - 6)
    (_, row) = json.loads(to_json(head, [good, bad], {}))["rows"]
    assert {value for name, value in row.items() if name not in bad} == {None}
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(head, [{"point": "p3", "mu_observed": math.nan}], {})


def test_limit_on_the_workspace_is_that_of_the_row(small_run: Path, rows: Rows) -> None:
    """Invariant: catches a workspace that is not the one that was fitted."""
    for row in rows:
        (target,) = targets_at(small_run / "workspaces" / f"{row['point']}.json")
        method = row["method"]
        assert method in ("cls", "profile-likelihood")
        found = limit_of(target, LimitRequest(method=method, confidence_level=0.95))  # type: ignore[arg-type]
        assert found["status"] == "ok"
        assert found["observed"] == pytest.approx(float(row["mu_observed"]), rel=1e-6, abs=1e-9)
        assert found["expected"] == pytest.approx([float(row[f"mu_{band}"]) for band in BANDS[1:]], rel=1e-6)
        # the p-value is that of the significance
        significance = float(row["local_significance"])
        assert found["p_value"] == pytest.approx(0.5 * math.erfc(significance / math.sqrt(2.0)), rel=1e-3)


def test_targets_of_a_run(small_run: Path, rows: Rows) -> None:
    """Catches a run whose points cannot be named, or come in the order of the file system."""
    names = list(dict.fromkeys(row["point"] for row in rows))
    assert [target.name for target in targets_at(small_run)] == names
    assert [target.name for target in targets_at(small_run, pattern="m_a_0*")] == names[:1]
    assert [target.values for target in targets_at(small_run, pattern=names[2])] == [(float(rows[4]["m_a_gev"]),)]
