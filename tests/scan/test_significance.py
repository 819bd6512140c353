"""Global significance of a run: toys that its points share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.errors import RunDirectoryError
from modelbuilder.histograms.templates import from_uhi_json
from modelbuilder.inference.scan_significance import toy_scans
from modelbuilder.scan.run import run_search
from modelbuilder.scan.shared_toys import SharedToys, Windows
from modelbuilder.scan.significance import scan_significance
from modelbuilder.scan.store import load_run
from modelbuilder.spec.load import LoadedSearch, load_search

Tiny = Callable[..., LoadedSearch]
NEIGHBOURS = "grid.m_a.segments=[{values: [2.0 GeV, 2.01 GeV, 2.02 GeV, 3.9 GeV], source: assumption}]"


@pytest.fixture(scope="module")
def neighbours(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three masses whose windows overlap almost wholly, and one apart from them.

    Without the spurious signal, which is one and the same parameter for all masses.
    """
    path = tmp_path_factory.mktemp("neighbours") / "out"
    run_search(
        tiny(NEIGHBOURS, "systematics.background_shape=null", "backgrounds.three_photon.events=2000000"), path, jobs=1
    )
    return path


@pytest.fixture(scope="module")
def region(neighbours: Path) -> SharedToys:
    search, _ = load_run(neighbours)
    windows = Windows(search)
    (points,) = windows.groups(search.points).values()
    return SharedToys(windows, neighbours, points)


def test_windows_are_slices_of_one_set_of_toys(neighbours: Path, region: SharedToys) -> None:
    """Invariant: catches a window that is shifted by a bin, or gets the constraint terms of another parameter: what
    toys are thrown from has in each window the backgrounds of its point, and every auxiliary measurement.
    """
    search, _ = load_run(neighbours)
    asimov = region.common.asimov_data(region.common.fit_fixed_poi(0.0).bestfit)
    for point, likelihood, selection in zip(search.points, region.likelihoods, region.selections, strict=True):
        templates = from_uhi_json((neighbours / "templates" / f"{point.name}.json").read_text())
        background = np.sum([templates[name].values() for name in search.spec.backgrounds], axis=0)
        n = len(likelihood.bin_names)
        assert len(selection) == len(set(selection.tolist())) == len(likelihood.observed_data)
        assert asimov[selection[:n]] == pytest.approx(background, rel=1e-9, abs=1e-9)
        assert asimov[selection[n:]] == pytest.approx(likelihood.observed_data[n:], abs=1e-9)


def test_neighbours_share_their_events(region: SharedToys) -> None:
    """Reference: catches toys that are thrown anew for each point, and such as are shared by windows without a common bin.

    Windows of three neighbours overlap by nine tenths; the fourth is far away.
    """
    n = 2000
    scans = toy_scans(region.likelihoods, region.common, seed=3, n_toys=n, selections=region.selections, n_threads=2)
    first, second, _, far = np.sqrt(scans).T
    assert np.corrcoef(first, second)[0, 1] > 0.5
    assert abs(np.corrcoef(first, far)[0, 1]) < 4.0 / np.sqrt(n)
    # a window with many events has a q0 that is 0 in half of the toys, and beyond 1 in 16 %
    assert np.mean(far > 0.0) == pytest.approx(0.5, abs=0.06)
    assert np.mean(far > 1.0) == pytest.approx(0.1587, abs=0.04)


def test_the_largest_excess(neighbours: Path) -> None:
    """Reference: catches a p-value of one point only: three neighbours and one apart are somewhat more than two tests."""
    found = scan_significance(neighbours, n_toys=2000, seed=3, n_threads=2)
    assert found.n_points == 4
    assert found.by_toys.n_failed == 0
    p, value = found.by_toys.local_p_value, found.by_toys.global_p_value
    error = 3.0 * (value.upper - value.lower)
    assert 1.0 - (1.0 - p) ** 2 - error < value.value < 1.0 - (1.0 - p) ** 3 + error


def test_threads_change_nothing(neighbours: Path) -> None:
    """Catches toys that depend on who throws them; and a seed that is not used."""
    one, two = (scan_significance(neighbours, n_toys=200, seed=5, n_threads=n) for n in (1, 2))
    assert one == two
    assert scan_significance(neighbours, n_toys=200, seed=6) != one


def test_a_run_without_significances(neighbours: Path, tmp_path: Path) -> None:
    """Catches a crash where there is nothing to say."""
    run = tmp_path / "out"
    shutil.copytree(neighbours, run)
    (run / "limits.json").unlink()
    with pytest.raises(RunDirectoryError, match="0 points have a local significance; a global one needs at least two"):
        scan_significance(run, n_toys=100, seed=1)


def test_counts_are_sums_of_the_same_toys(tmp_path: Path) -> None:
    """Invariant: what the toys of a scan are thrown from has, summed over each window, the background of its point, and
    auxiliary measurements at their centres, that of the finite simulation too. Catches windows that do not share events.
    """
    spec = Path(__file__).parents[1] / "histograms" / "searches" / "counting.yaml"
    grid = "grid.m_Zp.segments=[{from: 2 GeV, to: 2.6 GeV, step: 1 resolution, source: assumption}]"
    search = load_search(spec, overrides=(grid, "radiation.initial_state=collinear", "statistics.methods=[cls]"))
    path = tmp_path / "out"
    run_search(search, path, jobs=1)
    windows = Windows(search)
    (points,) = windows.groups(search.points).values()
    shared = SharedToys(windows, path, points)
    asimov = shared.common.asimov_data(shared.common.fit_fixed_poi(0.0).bestfit)
    assert len(points) == 4
    for point, likelihood, selection in zip(points, shared.likelihoods, shared.selections, strict=True):
        templates = from_uhi_json((path / "templates" / f"{point.name}.json").read_text())
        background = sum(float(templates[name].values()[0]) for name in search.spec.backgrounds)
        found = asimov @ selection
        assert found[0] == pytest.approx(background, rel=1e-9)
        assert found[1:] == pytest.approx(likelihood.observed_data[1:], abs=1e-9)
        assert len(found) > 4
    scans = np.sqrt(toy_scans(shared.likelihoods, shared.common, seed=3, n_toys=2000, selections=shared.selections)).T
    assert np.corrcoef(scans[0], scans[1])[0, 1] > 0.3  # half of the window
    assert abs(np.corrcoef(scans[0], scans[2])[0, 1]) < 0.25  # they touch; what they share is systematic


def test_lifetimes_share_the_events_of_their_mass(tmp_path: Path) -> None:
    """Reference: catches toys thrown anew for each lifetime: fits of one mass at two short lifetimes look for nearly the
    same peak in the same events, and those of another mass in others.
    """
    spec = Path(__file__).parents[2] / "specs" / "belle" / "b_to_kplus_alp.yaml"
    grid = "grid.m_a.segments=[{values: [2 GeV, 3.5 GeV], source: assumption}]"
    lifetimes = "signal.lifetime.values=['0 cm', '1 mm', '3 cm']"
    search = load_search(spec, overrides=(grid, "grid.m_a.gaps=null", lifetimes, "signal.events=5000"))
    path = tmp_path / "out"
    run_search(search, path, jobs=1)
    windows = Windows(search)
    (points,) = windows.groups(search.points).values()
    shared = SharedToys(windows, path, points)
    n = 2000
    scans = np.sqrt(toy_scans(shared.likelihoods, shared.common, seed=3, n_toys=n, selections=shared.selections))
    at = {(point.mass, point.ctau): scan for point, scan in zip(points, scans.T, strict=True)}
    prompt, near, late, far = at[2.0, 0.0], at[2.0, 0.1], at[2.0, 3.0], at[3.5, 0.0]
    assert np.corrcoef(prompt, near)[0, 1] > 0.9
    assert np.corrcoef(prompt, late)[0, 1] < np.corrcoef(prompt, near)[0, 1]
    assert abs(np.corrcoef(prompt, far)[0, 1]) < 4.0 / np.sqrt(n)
    found = scan_significance(path, n_toys=200, seed=3)
    assert (found.n_points, found.by_upcrossings) == (6, None)
    assert found.as_dict()["ctau_cm"] == found.point.ctau
    assert found.point.ctau is not None
