"""Backgrounds of which nothing is simulated: the stated expectation as template, pseudo-data, and in a limit."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import PchipInterpolator
from scipy.stats import kstest, poisson

from modelbuilder.errors import UserError, WorkspaceError
from modelbuilder.histograms.look import Looker
from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.histograms.stated import expected_events, pseudo_counts
from modelbuilder.scan.run import run_search
from modelbuilder.spec.check_file import check_file
from modelbuilder.spec.load import LoadedSearch, load_search

SPEC = Path(__file__).parent / "searches" / "b_to_k_alp.yaml"
EVENTS = "signal.events=2000"


def search(*overrides: str) -> LoadedSearch:
    return load_search(SPEC, overrides=(EVENTS, *overrides))


def templates(*overrides: str) -> RegionTemplates:
    simulation = Simulation(search(*overrides))
    (region,) = simulation.regions.values()
    return simulation.background(region)


@pytest.mark.parametrize(
    ("points", "densities"), [((0.0,), (3.0,)), ((0.5, 1.0, 2.0), (1.0, 4.0, 0.5)), ((-3.0, 9.0), (0.0, 5.0))]
)
def test_bins_are_integrals(points: tuple[float, ...], densities: tuple[float, ...]) -> None:
    """Reference: numerical integration; kinks within bins, on edges and outside."""
    edges = np.array([-1.0, 0.3, 0.5, 0.9, 1.7, 4.0])
    found = expected_events(points, densities, edges)
    for low, high, value in zip(edges, edges[1:], found, strict=False):
        kinks = [x for x in points if low < x < high]
        assert value == pytest.approx(
            quad(lambda x: float(np.interp(x, points, densities)), low, high, points=kinks)[0]
        )


def test_bins_of_a_smooth_spectrum() -> None:
    """Reference: numerical integration of the interpolation of Fritsch and Carlson; constant beyond the points."""
    points, densities = (0.5, 1.0, 2.0, 3.5), (1.0, 4.0, 0.5, 0.4)
    edges = np.array([-1.0, 0.3, 0.5, 0.9, 1.7, 4.0])
    curve = PchipInterpolator(points, densities)
    found = expected_events(points, densities, edges, "monotone-cubic")
    for low, high, value in zip(edges, edges[1:], found, strict=False):
        inner = [x for x in points if low < x < high]
        assert value == pytest.approx(
            quad(lambda x: float(curve(min(max(x, 0.5), 3.5))), low, high, points=inner, epsabs=1e-12)[0], rel=1e-9
        )


def test_a_spec_chooses_the_interpolation() -> None:
    """Catches a key that is read and not used."""
    expected = "backgrounds.combinatorial.expected"
    channel = next(iter(search().spec.channels))
    linear, smooth = templates(), templates(f"{expected}.{channel}.interpolation=monotone-cubic")
    one, two = (found.backgrounds["combinatorial"].nominal.values for found in (linear, smooth))
    assert not np.allclose(one, two, rtol=1e-6)


def test_pseudo_data_are_poisson() -> None:
    """Reference: the quantile of each count is uniform. Catches counts that follow the bins before them."""
    expected = np.linspace(2.0, 300.0, 2000)
    counts = pseudo_counts(expected, seed=4, stream="x")
    rng = np.random.default_rng(1)
    uniform = poisson.cdf(counts - 1.0, expected) + rng.random(2000) * poisson.pmf(counts, expected)
    assert kstest(uniform, "uniform").pvalue > 1e-3
    assert np.array_equal(counts, pseudo_counts(expected, seed=4, stream="x"))
    assert not np.array_equal(counts, pseudo_counts(expected, seed=5, stream="x"))
    assert not np.array_equal(counts, pseudo_counts(expected, seed=4, stream="y"))


def test_the_expectation_follows_the_luminosity() -> None:
    """By hand: 40 events per 50 MeV and 200 fb^-1 at 2 GeV are 20 in a bin of 12.5 MeV at 400 fb^-1.

    Catches a projection that scales the signal and leaves the background where it was.
    """
    found = templates("data={kind: asimov}")
    edges, values = found.region.binning.edges, found.backgrounds["combinatorial"].nominal.values
    at = int(np.searchsorted(edges, 2.0)) - 1
    assert values[at] == pytest.approx(40.0 * (edges[at + 1] - edges[at]) / 0.05 * 2.0, rel=0.01)
    assert np.array_equal(found.observation, values)
    assert np.all(found.backgrounds["combinatorial"].nominal.variances == 0.0)
    ten = templates("data={kind: asimov}", "luminosity.value=4000 fb^-1")
    assert ten.backgrounds["combinatorial"].nominal.values == pytest.approx(10.0 * values)
    data = templates()
    pull = (data.observation.sum() - values.sum()) / math.sqrt(values.sum())
    assert abs(pull) < 4.0
    assert not np.array_equal(data.observation, values)


def test_an_expectation_from_a_file(tmp_path: Path) -> None:
    """Second method: the same numbers in the spec, halved by an efficiency, a cross section as events per fb^-1.

    Catches a unit that is lost on the way from the file, columns that are exchanged, and an efficiency that is not used.
    """
    (tmp_path / "specs" / "a").mkdir(parents=True)
    experiments = SPEC.parents[3] / "specs" / "experiments"
    (tmp_path / "specs" / "belle2.yaml").write_text((experiments / "belle2.yaml").read_text(encoding="utf-8"))
    text = SPEC.read_text(encoding="utf-8").replace("../../../specs/experiments/belle2", "../belle2")
    start, end = text.index("        at: [0.5 GeV"), text.index("        per: 50 MeV")
    columns = ("csv: x.csv", "columns: {at: m_MeV, events: n}", "units: {at: MeV, events: ''}")
    text = text[:start] + "".join(f"        {line}\n" for line in columns) + text[end:]
    text = text.replace("    rate: free", "    rate: free\n    efficiency: {value: 50 %, source: assumption}")
    (tmp_path / "specs" / "a" / "x.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "specs" / "a" / "x.csv").write_text("# events\nn,m_MeV\n20,500\n40,2000\n10,4000\n", encoding="utf-8")
    simulation = Simulation(load_search(tmp_path / "specs" / "a" / "x.yaml", overrides=("data={kind: asimov}",)))
    (region,) = simulation.regions.values()
    found = simulation.background(region).backgrounds["combinatorial"].nominal.values
    stated = templates("data={kind: asimov}").backgrounds["combinatorial"].nominal.values
    assert found == pytest.approx(0.5 * stated)


def test_limits_with_a_stated_background(tmp_path: Path) -> None:
    """Second method: the median limit is 1.645 standard deviations of the signal in linear least squares.

    The model of it, signal and a parabola on the stated expectation, is written here. Catches an expectation that does
    not reach the workspace, or reaches it as something else.
    """
    spec = search("data={kind: asimov}", "signal.events=20000")
    summary = run_search(spec, tmp_path / "run", points=3, jobs=1)
    assert summary.failed == {}
    with (tmp_path / "run" / "limits.csv").open(encoding="utf-8") as stream:
        row = next(row for row in csv.DictReader(stream) if row["m_a_gev"] == "2.0")
    simulation, point = Simulation(spec), spec.points[1]
    region = simulation.region_of(point)
    signal, efficiency = simulation.signal(region, point)
    window = region.binning.window(point.mass)
    edges = region.binning.window_edges(point.mass)
    centres = 0.5 * (edges[1:] + edges[:-1])
    density = np.interp(centres, [0.5, 2.0, 4.0], [20.0, 40.0, 10.0]) / 0.05 * 2.0
    expected = density * np.diff(edges)
    assert float(row["background_events"]) == pytest.approx(float(expected.sum()), rel=1e-3)
    columns = np.array([signal.nominal.values[window], *((centres - 2.0) ** k for k in range(3))])
    stdev = math.sqrt(float(np.linalg.inv((columns / expected) @ columns.T)[0, 0]))
    assert float(row["cross_section_fb_expected"]) == pytest.approx(1.645 * stdev, rel=0.05)
    assert float(row["signal_efficiency"]) == pytest.approx(efficiency)


def test_no_background_at_all(tmp_path: Path) -> None:
    """Catches a signal that cannot be looked at before its backgrounds are known, and limits without any."""
    text = SPEC.read_text(encoding="utf-8")
    start, end = text.index("backgrounds:"), text.index("systematics:")
    (tmp_path / "specs" / "a").mkdir(parents=True)
    path = tmp_path / "specs" / "a" / "none.yaml"
    experiments = SPEC.parents[3] / "specs" / "experiments"
    (tmp_path / "specs" / "belle2.yaml").write_text((experiments / "belle2.yaml").read_text(encoding="utf-8"))
    text = f"{text[:start]}backgrounds: {{}}\n{text[end:]}".replace("../../../specs/experiments/belle2", "../belle2")
    path.write_text(text, encoding="utf-8")
    assert check_file(path).problems == ()
    found = Looker(load_search(path), masses=(2.0,), n_events=5000).look()
    assert found.flow[-1].efficiency > 0.1
    with pytest.raises(WorkspaceError, match=r"none\.yaml:\d+: backgrounds: there is none, and without one no limit"):
        run_search(load_search(path), tmp_path / "run", points=1, jobs=1)
    assert not (tmp_path / "run").exists()


def test_nothing_to_look_at() -> None:
    """Catches a traceback where a background has no events."""
    with pytest.raises(UserError, match="nothing of combinatorial is simulated"):
        Looker(search(), sample="combinatorial", n_events=1000)
