"""Figures and bundles of a search that scans lifetimes, with one fit for all of them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from modelbuilder.inference.choice import LimitRequest
from modelbuilder.publish.bundle import publish_run
from modelbuilder.publish.darkcast import write_darkcast
from modelbuilder.publish.figures import draw_limit_figures
from modelbuilder.publish.finished_run import finished_run
from modelbuilder.scan.run import run_search
from modelbuilder.scan.store import load_run
from modelbuilder.scan.table import CTAU
from modelbuilder.scan.target import limits_at, targets_at
from modelbuilder.spec.load import load_combination, load_search

SPEC = Path(__file__).parents[2] / "specs" / "belle2" / "b_to_kaon_scalar_mumu.yaml"
COMBINED = SPEC.parents[1] / "belle" / "b_to_kaon_alp_combined.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three masses at four lifetimes, with their figures."""
    path = tmp_path_factory.mktemp("lifetimes") / "run"
    grid = "grid.m_S.segments=[{values: [0.4 GeV, 0.5 GeV, 0.6 GeV], source: assumption}]"
    values = "signal.lifetime.values=['10 um', '1 mm', '1 cm', '1 m']"
    search = load_search(SPEC, overrides=[grid, values, "signal.events=4000"])
    run_search(search, path, jobs=1)
    loaded, rows = load_run(path)
    draw_limit_figures(loaded, path, rows)
    return path


def test_rows_of_a_fit_are_read_at_each_lifetime(run: Path) -> None:
    """Catches a row of couplings that is taken for one of a fit, and lifetimes that stand for each other."""
    found = finished_run(run)
    assert len(found.points) == 3
    assert len(found.rows) == 12
    assert len(found.own_lifetimes) == 3
    assert [column.name for column in found.grid] == ["m_S_gev", CTAU]
    assert {found.head[point][CTAU] for point in found.points} == {1.0}
    assert len(found.rows_of("branching_fraction", "cls")) == 12
    assert found.rows_of("sin_theta", "cls") == found.own_lifetimes


def test_every_figure_has_its_numbers(run: Path) -> None:
    """The map and the curves have the limits of the table, at all lifetimes; the couplings one for each mass."""
    rows = {(row["m_S_gev"], row[CTAU]): row for row in load_run(run)[1]}
    for name in ("limit_branching_fraction_cls", "limit_branching_fraction_cls_lifetimes"):
        with (run / "figures" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            numbers = list(csv.DictReader(stream))
        assert len(numbers) == 12
        for line in numbers:
            row = rows[float(line["m_S_gev"]), float(line[CTAU])]
            for column in ("branching_fraction_observed", "branching_fraction_expected"):
                assert line[column] == ("" if row[column] is None else repr(row[column]))
    with (run / "figures" / "limit_sin_theta_cls.csv").open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 3


def test_the_bundle_says_the_same_as_the_run(run: Path, tmp_path: Path) -> None:
    """From the bundle alone: the limit on mu, times what mu = 1 is at each lifetime, is the limit of the run, to 1e-6.

    Catches a reference of another lifetime, and tables in which lifetimes are mixed.
    """
    out = tmp_path / "bundle"
    publish_run(run, out)
    limits = {item["patch"]: item["observed"] for item in limits_at(
        targets_at(out / "likelihoods"), LimitRequest(method="cls", confidence_level=0.95), jobs=1
    )}  # fmt: skip
    efficiency = yaml.safe_load((out / "hepdata" / "efficiency.yaml").read_text(encoding="utf-8"))
    assert [column["header"]["name"] for column in efficiency["independent_variables"]] == ["m_S", "ctau"]
    table = yaml.safe_load((out / "hepdata" / "limit_branching_fraction_cls.yaml").read_text(encoding="utf-8"))
    assert len(table["dependent_variables"][0]["values"]) == 12
    own = yaml.safe_load((out / "hepdata" / "limit_sin_theta_cls.yaml").read_text(encoding="utf-8"))
    assert [column["header"]["name"] for column in own["independent_variables"]] == ["m_S"]
    compared = 0
    for row in finished_run(run).rows:
        if row["status"] == "ok":
            compared += 1
            limit = limits[row["point"]] * row["reference_branching_fraction"]
            assert limit == pytest.approx(row["branching_fraction_observed"], rel=1e-6)
    assert compared >= 9
    assert "**Lifetimes.** The signals are at c tau = 1 cm" in (out / "likelihoods" / "README.md").read_text(
        encoding="utf-8"
    )


def test_darkcast_files_claim_no_efficiency_of_another_lifetime(run: Path, tmp_path: Path) -> None:
    """Catches limits at the lifetime of one model that are read as those of any."""
    written = write_darkcast(tmp_path, finished_run(run))
    (about,) = (path for path in written if path.suffix == ".py" and "sin_theta" in path.name)
    text = about.read_text(encoding="utf-8")
    assert 't0 = 0, t1 = float("inf")' not in text
    assert "at the lifetime that this model gives" in text


def test_a_combination_says_what_it_limits_at_each_lifetime(tmp_path: Path) -> None:
    """Catches a bundle of a combination that keeps the limits at given lifetimes, of which its likelihoods are, to itself:
    those of the table are those of the run, and of the likelihoods of the bundle.
    """
    masses = "{segments: [{values: [1 GeV, 2 GeV], source: assumption}]}"
    small = [
        f"searches.{mode}.{change}"
        for mode in ("kplus", "kshort", "kstar0", "kstarplus")
        for change in (f"grid.m_a={masses}", "signal.lifetime.values=['0 cm', '1 cm']", "signal.events=2000")
    ]
    path = tmp_path / "run"
    combination = load_combination(COMBINED, overrides=[*small, f"grid.m_a={masses}"])
    run_search(combination, path, jobs=1)
    out = tmp_path / "bundle"
    publish_run(path, out)
    table = yaml.safe_load(
        (out / "hepdata" / "limit_g_aw_per_gev_cls_at_given_lifetimes.yaml").read_text(encoding="utf-8")
    )
    head = [column["header"]["name"] for column in table["independent_variables"]]
    assert head == ["m_a", "ctau"]
    columns = [*table["independent_variables"], table["dependent_variables"][0]]
    published = list(zip(*([cell["value"] for cell in column["values"]] for column in columns), strict=True))
    rows = finished_run(path).rows
    expected = [(row["m_a_gev"], row[CTAU], pytest.approx(row["g_aw_per_gev_observed"], rel=1e-5)) for row in rows]
    assert published == expected
    assert len(published) == 4
    request = LimitRequest(method="cls", confidence_level=0.9)
    limits = {item["patch"]: item["observed"] for item in limits_at(targets_at(out / "likelihoods"), request, jobs=1)}
    for row in rows:
        g = row["reference_g_aw_per_gev"] * limits[row["point"]] ** 0.5
        assert g == pytest.approx(row["g_aw_per_gev_observed"], rel=1e-6)
