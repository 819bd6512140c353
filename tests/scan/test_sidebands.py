"""A run with sidebands: limits of every row, toys of the whole scan, and what is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelbuilder.histograms.templates import from_uhi_json
from modelbuilder.inference.choice import LimitRequest
from modelbuilder.publish.bundle import publish_run
from modelbuilder.publish.unpack import unpack
from modelbuilder.scan.run import run_search
from modelbuilder.scan.shared_toys import SharedToys, Windows
from modelbuilder.scan.significance import scan_significance
from modelbuilder.scan.store import load_run
from modelbuilder.scan.target import limit_of, targets_at
from modelbuilder.spec.load import load_search
from modelbuilder.workspace.files import read_json

SEARCHES = Path(__file__).parents[1] / "histograms" / "searches"
GRID = "grid.m_S={segments: [{values: [0.8 GeV, 0.805 GeV, 0.9 GeV], source: assumption}]}"
METHOD = "statistics.methods=[bayesian]"


@pytest.fixture(scope="module", params=["sideband", "sideband_elsewhere"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sidebands") / "run"
    run_search(load_search(SEARCHES / f"{request.param}.yaml", overrides=(GRID, METHOD)), path, jobs=1)
    return path


def test_rows_have_expected_limits(run: Path) -> None:
    """Second method: the workspace of a point by itself. Catches a row whose limit is not that of its workspace."""
    search, rows = load_run(run)
    assert [row["status"] for row in rows] == ["ok"] * 3
    for row in rows:
        (target,) = targets_at(run, pattern=row["point"])
        found = limit_of(
            target, LimitRequest(method="bayesian", confidence_level=search.spec.statistics.confidence_level)
        )
        assert float(row["mu_observed"]) == pytest.approx(found["observed"], rel=1e-9)
        assert float(row["mu_expected"]) == pytest.approx(found["expected"][2], rel=1e-9)


def test_toys_of_the_scan_sum_the_same_events(run: Path) -> None:
    """Invariant: catches windows and sidebands of toys that are other bins than those of the data: applied to the data
    of the regions, the sums are what each workspace has observed."""
    search, _ = load_run(run)
    windows = Windows(search)
    ((_, points),) = windows.groups(search.points).items()
    shared = SharedToys(windows, run, points)
    data = np.zeros(len(shared.common.observed_data))
    for index, name in enumerate(shared.common.flat.bin_names):
        region, number = name[:-1].rsplit("[", 1)
        text = (run / "templates" / f"background_{region}.json").read_text(encoding="utf-8")
        data[index] = from_uhi_json(text)["observation"].values()[int(number)]
    for point, likelihood, selection in zip(points, shared.likelihoods, shared.selections, strict=True):
        found = (data @ selection)[: len(likelihood.flat.bin_names)]
        observed = {
            item["name"]: item["data"][0]
            for item in read_json(run / "workspaces" / f"{point.name}.json")["observations"]
        }
        assert dict(zip(likelihood.flat.bin_names, found.tolist(), strict=True)) == {
            f"{channel}[0]": value for channel, value in observed.items()
        }
    assert 0.0 < scan_significance(run, n_toys=100, seed=1).by_toys.global_p_value.value <= 1.0


def test_published_likelihoods(run: Path, tmp_path: Path) -> None:
    """Catches a sideband that is lost between the run and who unpacks it: limits are those of the run."""
    publish_run(run, tmp_path / "bundle")
    unpack(next((tmp_path / "bundle" / "hepdata").glob("likelihoods.*")), tmp_path / "again")
    search, rows = load_run(run)
    request = LimitRequest(method="bayesian", confidence_level=search.spec.statistics.confidence_level)
    found = {target.name: limit_of(target, request) for target in targets_at(tmp_path / "again")}
    assert len(found) == len(rows)
    for row in rows:
        assert found[row["point"]]["observed"] == pytest.approx(float(row["mu_observed"]), rel=1e-6)
