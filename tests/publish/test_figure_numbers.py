"""The numbers beside the figures: those of the run, or of pyhf's own fit, from which the figures are not made."""

from __future__ import annotations

import csv
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyhf
import pytest
import yaml
from scipy.optimize import minimize

from modelbuilder.inference.choice import open_likelihood
from modelbuilder.inference.diagnostics import fit_with_uncertainties
from modelbuilder.publish import figures
from modelbuilder.publish.bundle import publish_run
from modelbuilder.publish.figure_numbers import write_numbers
from modelbuilder.publish.fit import correlation_numbers
from modelbuilder.scan.store import load_run
from modelbuilder.spec.load import load_search

from .conftest import Json, MakeRun, window

COUNTING = Path(__file__).parents[1] / "histograms" / "searches" / "counting.yaml"
FloatArray = npt.NDArray[np.float64]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def column(rows: list[dict[str, str]], name: str) -> FloatArray:
    return np.array([float(row[name] or "nan") for row in rows])


EXCESS = window([2.0, 5.0, 1.0], [10.0 / 3.0, 4.0, 5.0], [7, 12, 6])
"""More data than background: the best fit has a signal, inside the bounds of its strength."""


class Pyhf:
    """The fit of a workspace by pyhf's model and scipy alone, with derivatives by differences."""

    def __init__(self, workspace: Json) -> None:
        self.model = pyhf.Workspace(workspace).model()
        self.data = np.array(pyhf.Workspace(workspace).data(self.model))
        init, bounds = self.model.config.suggested_init(), self.model.config.suggested_bounds()
        self.names = list(self.model.config.par_names)
        start = np.array(init)
        for _ in range(4):
            start = minimize(self.twice_nll, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15}).x
        self.bestfit = start

    def twice_nll(self, pars: FloatArray) -> float:
        return -2.0 * float(self.model.logpdf(pars, self.data)[0])

    def expected(self, pars: FloatArray) -> FloatArray:
        return np.asarray(self.model.expected_data(pars, include_auxdata=False))

    def by_sample(self) -> dict[str, FloatArray]:
        found = self.model.main_model.expected_data(self.bestfit, return_by_sample=True)
        return dict(zip(self.model.config.samples, np.asarray(found), strict=True))

    def covariance(self) -> FloatArray:
        """Twice the inverse of the matrix of second derivatives of -2 ln L."""
        steps, n = np.diag(1e-3 * np.maximum(np.abs(self.bestfit), 0.1)), len(self.bestfit)
        hessian = np.empty((n, n))
        for i in range(n):
            for j in range(n):
                corners = [
                    a * b * self.twice_nll(self.bestfit + a * steps[i] + b * steps[j]) for a in (1, -1) for b in (1, -1)
                ]
                hessian[i, j] = math.fsum(corners) / (4.0 * steps[i, i] * steps[j, j])
        inverse: FloatArray = 2.0 * np.linalg.inv(hessian)
        return inverse


def test_what_is_missing_is_empty(tmp_path: Path) -> None:
    """Catches NaN in a table, digits that are lost, and names with commas that tear a row."""
    path = write_numbers(
        tmp_path / "x.csv", {"a, b": [0.1 + 0.2, None, "c, d"], "e": np.array([math.nan, 1e-300, 2.0])}
    )
    assert path.read_text() == '"a, b",e\n0.30000000000000004,\n,1e-300\n"c, d",2.0\n'
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        write_numbers(path, {"a": [1.0, 2.0], "b": [1.0]})


@pytest.fixture(scope="module")
def drawn(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run with the figures of one point, and a row of it."""
    path = tmp_path_factory.mktemp("drawn") / "run"
    shutil.copytree(small_run, path)
    search, rows = load_run(path)
    figures.draw_limit_figures(search, path, rows)
    figures.draw_point_figures(search, path, rows[2])
    return path, rows[2]


def test_spectra_after_the_fit_are_those_of_pyhf(drawn: tuple[Path, dict[str, Any]]) -> None:
    """Reference: pyhf's expected data at its own best fit. Catches samples, bins or points that are mixed up."""
    run, row = drawn
    name = row["point"]
    rows = rows_of(run / "figures" / f"postfit_{name}.csv")
    theirs = Pyhf(json.loads((run / "workspaces" / f"{name}.json").read_text()))
    expected = theirs.expected(theirs.bestfit)
    assert column(rows, "total") == pytest.approx(expected, rel=2e-4)
    assert column(rows, "observed").tolist() == theirs.data[: len(expected)].tolist()
    samples = theirs.by_sample()
    (background,) = [heading for heading in rows[0] if heading.startswith("background: ")]
    others = np.sum([values for sample, values in samples.items() if sample != "signal"], axis=0)
    scale = float(expected.mean())
    assert column(rows, background) == pytest.approx(others, abs=1e-3 * scale)
    assert column(rows, "signal") == pytest.approx(samples["signal"], abs=1e-3 * scale)
    pulls = (theirs.data[: len(expected)] - expected) / np.sqrt(expected)
    assert column(rows, "pull") == pytest.approx(pulls, abs=2e-2)
    histogram = json.loads((run / "templates" / f"{name}.json").read_text())["observation"]
    (axis,) = histogram["axes"]
    edges = np.array(axis["edges"]) if "edges" in axis else np.linspace(axis["lower"], axis["upper"], axis["bins"] + 1)
    assert column(rows, "low_gev2") == pytest.approx(edges[:-1])
    assert column(rows, "high_gev2") == pytest.approx(edges[1:])


def test_pulls_are_those_of_pyhf(drawn: tuple[Path, dict[str, Any]]) -> None:
    """Reference: best fit less auxiliary measurement, in units of its width. Catches parameters in another order."""
    run, row = drawn
    theirs = Pyhf(json.loads((run / "workspaces" / f"{row['point']}.json").read_text()))
    rows = rows_of(run / "figures" / f"pulls_{row['point']}.csv")
    assert {one["parameter"] for one in rows} >= {"lumi"}
    for one in rows:
        parameters = theirs.model.config.param_set(one["parameter"])
        centre, width = float(parameters.auxdata[0]), float(parameters.width()[0])
        pull = (theirs.bestfit[theirs.names.index(one["parameter"])] - centre) / width
        assert float(one["pull"]) == pytest.approx(pull, abs=5e-3)


def test_limits_are_those_of_the_run(drawn: tuple[Path, dict[str, Any]]) -> None:
    """Catches a table of another method or quantity: each number is that of `limits.csv`, other methods included."""
    run, _ = drawn
    limits = rows_of(run / "limits.csv")
    for method, other in (("cls", "profile-likelihood"), ("profile-likelihood", "cls")):
        for quantity in ("cross_section_fb", "g_agammagamma_per_gev"):
            rows = rows_of(run / "figures" / f"limit_{quantity}_{method}.csv")
            own = [row for row in limits if row["method"] == method]
            for heading in rows[0]:
                name, _, of = heading.partition(" (")
                whose = [row for row in limits if row["method"] == other] if of else own
                assert [row[heading] for row in rows] == [row[name] for row in whose], heading
            assert f"{quantity}_expected ({other})" in rows[0]


def test_curves_that_are_compared(tmp_path: Path) -> None:
    """Catches curves that run into each other, and the wrong unit of the mass."""
    curve = "{title: 'a, curve', table: {m_Zp: [500 MeV, 2 GeV], value: [1e-3, 2e-3]}, source: assumption}"
    band = "{title: band, table: {m_Zp: [1 GeV, 2 GeV], low: [1e-3, 2e-3], high: [3e-3, 4e-3]}, source: assumption}"
    interpreted = "interpretations={gprime: {model: l-mu-l-tau, decay: invisible}}"
    search = load_search(COUNTING, overrides=[interpreted, f"comparisons={{gprime: [{curve}, {band}]}}"])
    compared = figures.compared_curves(search, "gprime", np.array([1.0, 2.0]))
    path = write_numbers(tmp_path / "x.csv", figures.comparison_numbers(compared, "m_Zp", "gprime"))
    assert [tuple(row.values()) for row in rows_of(path)] == [
        ("a, curve", "0.5", "0.001", ""), ("a, curve", "2.0", "0.002", ""),
        ("band", "1.0", "0.001", "0.003"), ("band", "2.0", "0.002", "0.004"),
    ]  # fmt: skip


def test_correlations_are_those_of_pyhf() -> None:
    """Reference: second derivatives of pyhf's -2 ln L by differences. Catches rows that belong to other columns."""
    theirs = Pyhf(EXCESS)
    covariance = theirs.covariance()
    sigma = np.sqrt(np.diag(covariance))
    expected = covariance / np.outer(sigma, sigma)
    likelihood, _ = open_likelihood(EXCESS)
    fit = fit_with_uncertainties(likelihood)
    assert not fit.at_bounds
    numbers = correlation_numbers(fit, 0.0)
    order = [theirs.names.index(str(name)) for name in numbers["parameter"]]
    assert sorted(order) == list(range(len(theirs.names)))
    for index, name in zip(order, numbers["parameter"], strict=True):
        assert np.asarray(numbers[str(name)]) == pytest.approx(expected[index][order], abs=5e-3)
    some = correlation_numbers(fit, 0.3)
    assert 0 < len(some["parameter"]) < len(order)
    assert list(some) == ["parameter", *some["parameter"]]


def test_the_spectrum_of_a_bundle(make_run: MakeRun, tmp_path: Path) -> None:
    """Reference: pyhf's fit, and its covariance through the derivatives of its expected data. Catches a table of another
    point, bins that are not those of the templates, and an error without the correlations of the parameters.
    """
    run = make_run([window([1.0, 2.0, 1.0], [4.0, 4.0, 5.0], [4, 5, 5]), EXCESS])
    publish_run(run, tmp_path / "out")
    (file,) = (tmp_path / "out" / "hepdata").glob("postfit_*.yaml")
    name = file.stem.removeprefix("postfit_")
    assert name == "m_a_2p0000"
    workspace = json.loads((run / "workspaces" / f"{name}.json").read_text())
    theirs = Pyhf(workspace)
    assert theirs.bestfit[theirs.model.config.poi_index] > 0.1  # inside its bounds, where the errors are a parabola
    read = yaml.safe_load(file.read_text())
    (bins,) = read["independent_variables"]
    edges = json.loads((run / "templates" / f"{name}.json").read_text())["observation"]["axes"][0]["edges"]
    assert [(one["low"], one["high"]) for one in bins["values"]] == list(itertools.pairwise(edges))
    columns = {one["header"]["name"]: one["values"] for one in read["dependent_variables"]}
    assert [one["value"] for one in columns["Data"]] == workspace["observations"][0]["data"]
    total = columns["Total after the fit"]
    expected = theirs.expected(theirs.bestfit)
    assert [one["value"] for one in total] == pytest.approx(expected, rel=1e-3)
    samples = theirs.by_sample()
    assert [one["value"] for one in columns["Signal"]] == pytest.approx(samples["signal"], rel=1e-2, abs=1e-3)
    assert [one["value"] for one in columns["background"]] == pytest.approx(samples["background"], rel=1e-3)
    steps = np.diag(1e-4 * np.maximum(np.abs(theirs.bestfit), 0.1))
    slopes = np.array(
        [(theirs.expected(theirs.bestfit + h) - theirs.expected(theirs.bestfit - h)) / (2.0 * h.max()) for h in steps]
    )
    stdevs = np.sqrt(np.diag(slopes.T @ theirs.covariance() @ slopes))
    errors = [one["errors"][0]["asymerror"] for one in total]
    assert [error["plus"] for error in errors] == pytest.approx(stdevs, rel=0.03)  # cabinetry takes whole steps
    assert [-error["minus"] for error in errors] == pytest.approx(stdevs, rel=0.03)


def test_a_sideband_is_no_part_of_the_spectrum(make_run: MakeRun, tmp_path: Path) -> None:
    """Catches a bundle that fails, or shows the wrong bins, where a workspace has a channel beside the window."""
    both = json.loads(json.dumps(EXCESS))
    sideband = {"name": "background", "data": [50.0], "modifiers": []}
    both["channels"].append({"name": "plane_sideband", "samples": [sideband]})
    both["observations"].append({"name": "plane_sideband", "data": [51]})
    publish_run(make_run([both]), tmp_path / "out")
    read = yaml.safe_load((tmp_path / "out" / "hepdata" / "postfit_m_a_1p0000.yaml").read_text())
    assert [one["value"] for one in read["dependent_variables"][0]["values"]] == EXCESS["observations"][0]["data"]


def test_figures_are_beside_their_tables(drawn: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Catches a figure in a bundle without its numbers, be it in a table of HEPData or in a file beside it."""
    run, row = drawn
    publish_run(run, tmp_path / "out")
    first, *tables = yaml.safe_load_all((tmp_path / "out" / "hepdata" / "submission.yaml").read_text())
    of_tables = {
        resource["location"]: table["data_file"]
        for table in tables
        for resource in table.get("additional_resources", ())
    }
    assert of_tables[f"postfit_{row['point']}.png"] == f"postfit_{row['point']}.yaml"
    assert of_tables[f"pulls_{row['point']}.png"] == f"pulls_{row['point']}.yaml"
    alone = {resource["location"] for resource in first["additional_resources"]}
    pictures = {path.name for path in (run / "figures").glob("*.png")}
    assert pictures == (alone | of_tables.keys()) & pictures
    for name in pictures - of_tables.keys():
        assert name.replace(".png", ".csv") in alone
