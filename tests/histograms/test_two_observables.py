"""Templates with two axes: their projections, their files, pseudo-data and workspaces."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.errors import KinematicsError, SpecError
from modelbuilder.histograms.samples import GeneralSample
from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.histograms.templates import from_uhi_json, histograms, to_uhi_json
from modelbuilder.kinematics.cuts import fill_entries, flat_entries
from modelbuilder.kinematics.measure import TrackDetector, TrackResponse
from modelbuilder.kinematics.observables import evaluate_entries
from modelbuilder.kinematics.sample import ChainSample, Thinning
from modelbuilder.scan.point import build_point, limit_rows
from modelbuilder.scan.points import points_of
from modelbuilder.scan.run import run_search
from modelbuilder.scan.table import Row
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import LoadedSearch, load_search
from modelbuilder.spec.process import candidates_of
from modelbuilder.spec.topology import Law, parse_chain

SPEC = Path(__file__).parent / "searches" / "two_observables.yaml"
FIRST, SECOND = "recoil2(mu+ mu-)", "recoil_theta_cm(mu+ mu-)"
EDGES = np.linspace(0.0, 60.0, 13)
ANGLES = np.linspace(0.0, math.pi, 5)


def search(*overrides: str) -> LoadedSearch:
    return load_search(SPEC, overrides=overrides)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return Simulation(search())


@pytest.fixture(scope="module")
def background(simulation: Simulation) -> RegionTemplates:
    (region,) = simulation.regions.values()
    return simulation.background(region)


@pytest.mark.parametrize("name", ["signal", "mu_mu_gamma"])
def test_the_compiled_route_has_the_bits_of_the_other(simulation: Simulation, name: str) -> None:
    """Second method: events measured, cut and evaluated one step after another, and filled as flat entries.

    Catches a flattening with the axes exchanged, an event outside of one axis that is counted, and pseudo-data that are
    filled elsewhere.
    """
    point = simulation.search.points[1] if name == "signal" else None
    chain = simulation.chain_sample(name, simulation.spec.selection, point, n_events=20_000)
    narrow = ANGLES[1:]  # events lie outside of the second axis
    thinning = Thinning(scale=1e-3 if name == "signal" else 1.0, seed=5)
    found = chain.run({"": simulation.detector}, FIRST, EDGES, second=(SECOND, narrow), thinning=thinning)
    (piece,) = chain.pieces(simulation.detector)
    first, second = (
        evaluate_entries(chain.observables(text)[0], piece.measured, simulation.beams) for text in (FIRST, SECOND)
    )
    flat = np.arange(12 * 3 + 1.0)
    values, variances = fill_entries(flat_entries(first, second[0], EDGES, narrow), piece.weights, flat)
    assert np.array_equal(found.histograms[""].values, values[1:-1])
    assert np.array_equal(found.histograms[""].variances, variances[1:-1])
    assert found.histograms[""].underflow == values[0]
    assert found.histograms[""].overflow == values[-1] > 0.0
    by_hand, _, _ = np.histogram2d(first[0], second[0], bins=(EDGES, narrow), weights=piece.weights[0])
    assert found.histograms[""].values.reshape(12, 3) == pytest.approx(by_hand, rel=1e-9, abs=1e-12)
    assert found.counts is not None
    assert np.array_equal(found.counts > 0.0, (found.counts > 0.0) & (values[1:-1] > 0.0))


def test_projection_over_the_second_axis(simulation: Simulation) -> None:
    """Invariant: with weights whose sums are exact it is the histogram without that axis, bit for bit; so are the counts
    of the pseudo-data, for any weights. Catches events that are lost between the axes.
    """
    beams = replace(simulation.beams, electron_energy_spread=0.0, positron_energy_spread=0.0)
    topology = parse_chain("e+ e- -> mu+ mu-", laws={"e+ e-": Law(name="phase-space")})
    chain = ChainSample(
        topology, beams, candidates=candidates_of(topology, None, {}), isr=False, n_events=100_000, seed=1, stream="x"
    )
    detector = replace(
        simulation.detector,
        tracks=TrackDetector(response=TrackResponse(slope=0.0, constant=0.1, angle=0.01), efficiency=0.5),
    )
    first, second = ("energy_cm(mu+)", np.linspace(4.0, 6.0, 13)), ("theta_cm(mu-)", np.linspace(0.0, math.pi, 5))
    one = chain.run({"": detector}, *first).histograms[""]
    both = chain.run({"": detector}, *first, second=second).histograms[""]
    assert one.underflow > 0.0
    assert one.overflow > 0.0
    assert np.all(one.values[4:8] > 0.0)
    assert np.array_equal(one.values * 4.0, np.round(one.values * 4.0))  # each event weighs a quarter
    for part in ("values", "variances"):
        assert np.array_equal(getattr(both, part).reshape(12, 4).sum(axis=1), getattr(one, part))
    assert (both.underflow, both.overflow) == (one.underflow, one.overflow)
    gamma = simulation.chain_sample("mu_mu_gamma", simulation.spec.selection)
    thinning = Thinning(scale=1e-2, seed=3)
    counts = [
        gamma.run({"": simulation.detector}, FIRST, EDGES, second=axis, thinning=thinning).counts
        for axis in (None, (SECOND, ANGLES))
    ]
    assert counts[0] is not None
    assert counts[1] is not None
    assert counts[0].sum() > 10.0
    assert np.array_equal(counts[1].reshape(12, 4).sum(axis=1), counts[0])


def test_a_second_observable_has_one_entry(simulation: Simulation) -> None:
    """Catches a pairing of entries that nobody asked for."""
    topology = parse_chain("e+ e- -> gamma gamma", laws={"e+ e-": Law(name="two-photons", max_cos=0.9)})
    chain = ChainSample(
        topology, simulation.beams, candidates=candidates_of(topology, None, {}), isr=False, n_events=1000, seed=1,
        stream="x",
    )  # fmt: skip
    with pytest.raises(KinematicsError, match=r"theta\(gamma\): 2 entries in an event; a second observable has one"):
        chain.run({"": simulation.detector}, "mass(gamma gamma)", [0.0, 20.0], second=("theta(gamma)", [0.0, 9.0]))


def test_windows_and_shares(background: RegionTemplates) -> None:
    """By hand: a window keeps the bins of the second axis together; a stated background is shared as it is said."""
    region = background.region
    assert region.second is not None
    assert region.n_bins == 3 * region.binning.n_bins == len(background.observation)
    stated = background.backgrounds["four_leptons"].nominal.values.reshape(-1, 3)
    assert stated / stated.sum(axis=1, keepdims=True) == pytest.approx(
        np.tile([0.5, 1.0 / 3.0, 1.0 / 6.0], (len(stated), 1))
    )
    bins = region.binning.window(4.0)
    assert region.window(4.0) == slice(3 * bins.start, 3 * bins.stop)


def test_files_keep_both_axes(simulation: Simulation, background: RegionTemplates) -> None:
    """Invariant: catches axes that are exchanged, without names, or lost on the way to a file."""
    point = simulation.search.points[1]
    found = build_point(simulation.search, simulation, background, point)
    templates = found.templates
    text = to_uhi_json(
        histograms(
            {"signal": templates.signal}, templates.observation, templates.axis, templates.edges, templates.second
        )
    )
    assert json.loads(text)
    read = from_uhi_json(text)["signal"]
    assert [axis.name for axis in read.axes] == ["recoil2_mup_mum", "recoil_theta_cm_mup_mum"]
    assert [axis.label for axis in read.axes][1].endswith("[rad]")
    assert read.axes[1].edges == pytest.approx(np.linspace(0.0, math.pi, 4))
    assert np.asarray(read.values()).ravel() == pytest.approx(templates.signal.nominal.values)
    (channel,) = found.built.workspace["channels"]
    assert len(channel["samples"][0]["data"]) == 3 * (len(templates.edges) - 1)
    assert {row["status"] for row in limits_at(simulation.search, point)} == {"ok"}


def test_a_run_has_both_axes(tmp_path: Path) -> None:
    """The whole way: catches files of backgrounds with one axis, which a run could not write."""
    run_search(search("backgrounds.mu_mu_gamma.events=20000"), tmp_path / "out", points=1, jobs=1)
    files = sorted((tmp_path / "out" / "templates").glob("*.json"))
    assert len(files) == 2
    for file in files:
        assert len(from_uhi_json(file.read_text(encoding="utf-8"))["observation"].axes) == 2


def limits_at(loaded: LoadedSearch, point: GridPoint) -> list[Row]:
    """The rows of a grid point."""
    maker = points_of(loaded)
    return limit_rows(loaded.spec, maker.made(point, maker.shared([point])))


def test_an_angle_that_knows_the_signal_helps() -> None:
    """Reference: the median limit with two axes is not above that of the projection. Catches bins that are mismatched
    between signal and background.
    """
    limits = []
    for override in ("data={kind: asimov}", "channels.recoil.second=null"):
        more = ("backgrounds.four_leptons.expected.recoil.second=null",) if "second" in override else ()
        loaded = search(override, *more, "data={kind: asimov}", "backgrounds.mu_mu_gamma.events=400000")
        (row,) = limits_at(loaded, loaded.points[0])
        limits.append(float(row["cross_section_fb_expected"] or math.nan))
    assert limits[0] <= limits[1] * 1.005


def test_the_engine_of_three_photons_is_not_asked() -> None:
    """Catches a fast engine that would leave the second axis out: one background is a matter of both."""
    path = Path(__file__).parents[2] / "specs" / "belle2" / "alp_gammagamma_2018.yaml"
    expected = "{events: [1], per: 1 GeV^2, luminosity: 1 fb^-1, second: [1, 1, 1, 1], source: assumption}"
    channel = (
        "channels.diphoton={observable: recoil2(gamma), range: [0 GeV^2, 100 GeV^2], bins: 10, source: assumption,"
        " second: {observable: mass(gamma gamma gamma), range: [9 GeV, 12 GeV], bins: 4}}"
    )
    loaded = load_search(
        path,
        overrides=(
            "channels.recoil=null",
            channel,
            f"backgrounds={{some: {{title: some, expected: {{diphoton: {expected}}}, shape: stated, rate: fixed}}}}",
            "signal.events=2000",
            "grid.m_a.segments=[{values: [5 GeV], source: assumption}]",
            "systematics={}",
        ),
    )
    simulation = Simulation(loaded)
    (region,) = simulation.regions.values()
    assert isinstance(simulation.sample("signal", region, loaded.points[0]), GeneralSample)
    templates, _ = simulation.signal(region, loaded.points[0])
    assert templates.nominal.values.shape == (40,)
    assert templates.nominal.total > 0.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "channels.recoil.second.range=[180 deg, 0 deg]",
            "channels.recoil.second.range: found the lower end at or above",
        ),
        (
            "channels.recoil.second.observable=recoil_thta_cm(mu+ mu-)",
            "channels.recoil.second.observable: recoil_thta_cm",
        ),
        ("channels.recoil.count=true", "channels.recoil.second: found count and second"),
        ("backgrounds.four_leptons.expected.recoil.second=[1, 1]", "found 2 shares; the second observable has 3 bins"),
        (
            "backgrounds.four_leptons.expected.recoil.second=null",
            "missing: second; say how the events are shared among",
        ),
        ("backgrounds.mu_mu_gamma.shape={bernstein: 2, source: assumption}", "write `rate: free`"),
        (
            "backgrounds.mu_mu_gamma.shape={bernstein: 2, source: assumption}|backgrounds.mu_mu_gamma.rate=free",
            "backgrounds.mu_mu_gamma.shape: found a polynomial, but recoil has two observables",
        ),
    ],
)
def test_what_is_refused(override: str, message: str) -> None:
    """Catches a second observable that would be passed over."""
    with pytest.raises(SpecError) as caught:
        search(*override.split("|"))
    assert message in str(caught.value)
