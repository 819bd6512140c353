"""Searches by the general engine: yields by hand, both engines through one spec, pseudo-data, regions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.histograms.samples import GeneralSample
from modelbuilder.histograms.simulate import Simulation
from modelbuilder.histograms.three_photons import ThreePhotonSample
from modelbuilder.kinematics.chain import ChainGenerator
from modelbuilder.spec.load import LoadedSearch, load_search

SPECS = Path(__file__).parents[2] / "specs" / "belle2"
SEARCHES = Path(__file__).parent / "searches"
ZPRIME = SPECS / "zprime_invisible_2018.yaml"
SMALL = (
    "signal.events=50000",
    "backgrounds.mu_mu_gamma.events=100000",
    "backgrounds.tau_tau.events=100000",
    "backgrounds.tau_pion.events=100000",
    "grid.m_Zp.segments=[{values: [2 GeV, 5 GeV], source: assumption}]",
)
WHOLE = "channels.recoil={observable: recoil(mu+ mu-), range: [-11 GeV, 11 GeV], bins: 44, source: assumption}"

# without the cut on the direction of the recoil photons may be lost along the beams
FARTHER = "backgrounds.mu_mu_gamma.laws={e+ e-: {law: leptons-photon, min_energy: 0.2 GeV, max_cos: 0.98}}"


def zprime(*overrides: str) -> LoadedSearch:
    return load_search(ZPRIME, overrides=(*SMALL, *overrides))


def test_signal_yield_by_hand() -> None:
    """Closed form: without cuts, radiation and detector a cross section of 1 fb gives L events."""
    search = zprime(
        WHOLE, FARTHER, "selection=[]", "radiation.initial_state=none", "signal.efficiency.value=0.5",
        "experiment.tracks.acceptance=[{low: 0 deg, high: 180 deg, source: assumption}]",
        "experiment.tracks.minimum_transverse_momentum=0 GeV", "experiment.tracks.efficiency.value=1",
        "experiment.tracks.identification=[{particle: pion, taken_for: muon, efficiency: {value: 1, source: assumption}}]",
    )  # fmt: skip
    simulation = Simulation(search)
    templates, efficiency = simulation.signal(simulation.region_of(search.points[0]), search.points[0])
    assert templates.nominal.total == pytest.approx(0.276 * 0.5, rel=0.01)
    assert efficiency == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("law", ["leptons-vector", "leptons-scalar", "leptons-pseudoscalar"])
def test_unit_of_a_coupling_is_that_of_the_weights(law: str) -> None:
    """Second method: the mean of the weights of the generator, within its error, and not only of a common accuracy.

    Catches weights in fb that are divided by the cross section of another lepton, mass or spin.
    """
    for lepton, mass in (("mu", 2.0), ("mu", 5.0), ("tau", 2.0)):
        decays = ", tau+ -> anti-nu_tau mu+ nu_mu, tau- -> nu_tau mu- anti-nu_mu" if lepton == "tau" else ""
        process = f"signal.process=e+ e- -> {lepton}+ {lepton}- Zp, Zp -> invisible{decays}"
        search = load_search(
            SEARCHES / "counting.yaml",
            overrides=(
                process,
                f"signal.laws={{e+ e-: {law}}}",
                f"grid.m_Zp.segments=[{{values: [{mass} GeV], source: assumption}}]",
            ),
        )
        simulation, point = Simulation(search), search.points[0]
        born = simulation.born_cross_section("signal", point)
        generator = ChainGenerator(simulation.chain_sample("signal", [], point).topology, simulation.beams, isr=False)
        weighed = generator.weigh(n_events=200_000, seed=7, stream="x", n_threads=1)
        assert weighed.stdev < 0.005 * weighed.mean
        assert abs(weighed.mean - born) < 4.0 * weighed.stdev


def test_background_yield_by_hand() -> None:
    """Closed form: L sigma e, with the efficiency of the cut flow: the cross section counts what is produced."""
    search = zprime(WHOLE, FARTHER, "selection=[]")
    simulation = Simulation(search)
    region = simulation.region_of(search.points[0])
    templates = simulation.background(region).backgrounds
    found = simulation.chain_sample("tau_tau", region.cuts)
    flow = found.run({"": simulation.detector}, "recoil(mu+ mu-)", [-11.0, 11.0]).flow
    expected = 0.276 * 27.8e3 * 0.51 * flow[-1].efficiency
    assert templates["tau_tau"].nominal.total == pytest.approx(expected, rel=0.005)
    # muons are identified with 90 %, pions taken for them with 3 %: nearly the same kinematics
    ratio = templates["tau_pion"].nominal.total / templates["tau_tau"].nominal.total
    assert ratio == pytest.approx(34.6 / 27.8 * 0.03 / 0.90, rel=0.15)


def test_a_resonance_is_as_it_was_measured() -> None:
    """Closed form: the spread of the beams takes a sixth off the peak of the Y(4S), but not off its cross section."""
    search = load_search(SEARCHES / "b_to_k_scalar.yaml", overrides=("signal.events=20000", "selection=[]"))
    simulation = Simulation(search)
    point = search.points[1]
    region = simulation.region_of(point)
    for name, where in (("signal", point), ("prompt", None)):
        found = simulation.chain_sample(name, (), where)
        last = found.run({"": simulation.detector}, "reduced_mass(mu+ mu-)", [0.0, 6.0]).flow[-1]
        assert last.sum_weights < 0.9 * last.efficiency * found.n_events
        if where is not None:
            assert simulation.signal(region, where)[1] == pytest.approx(last.efficiency, rel=0.005)
        else:
            inside = simulation.background(region).backgrounds[name].nominal.total
            assert inside < 189.0 * 0.24 * 0.01 * last.efficiency


def test_both_engines_through_one_spec() -> None:
    """Second method: the same search, once as three photons, once with a cut that only the general engine knows."""
    path = SPECS / "alp_gammagamma_2018.yaml"
    small = (
        "signal.events=200000",
        "backgrounds.three_photon.events=400000",
        "grid.m_a.segments=[{values: [3 GeV, 8 GeV], source: assumption}]",
    )
    fast = load_search(path, overrides=(*small, "selection.1={quantity: energy(gamma), above: 0.05 GeV, source: assumption}",
                                        "selection.2={quantity: energy(gamma), above: 0.65 GeV, source: assumption}"))  # fmt: skip
    slow = load_search(path, overrides=(*small, "selection.1={quantity: energy(gamma), above: 0.05 GeV, source: assumption}",
                                        "selection.2={quantity: energy(gamma), above: 0.65 GeV, at_least: 3, source: assumption}"))  # fmt: skip
    one, two = Simulation(fast, n_threads=2), Simulation(slow, n_threads=2)
    for a, b in zip(fast.points, slow.points, strict=True):
        regions = one.region_of(a), two.region_of(b)
        samples = one.sample("signal", regions[0], a), two.sample("signal", regions[1], b)
        assert isinstance(samples[0], ThreePhotonSample)
        assert isinstance(samples[1], GeneralSample)
        signals = one.signal(regions[0], a), two.signal(regions[1], b)
        assert signals[0][1] == pytest.approx(signals[1][1], rel=0.02)
        pairs = [(signals[0][0], signals[1][0])]
        found = one.background(regions[0]), two.background(regions[1])
        pairs += [(found[0].backgrounds[name], found[1].backgrounds[name]) for name in ("three_photon", "eta")]
        for ours, theirs in pairs:
            variance = ours.nominal.variances + theirs.nominal.variances
            filled = variance > 0.0
            distance = (ours.nominal.values - theirs.nominal.values)[filled] / np.sqrt(variance[filled])
            # the entries of an event are correlated between bins: a wider spread than of independent ones
            assert float(np.sum(distance**2)) < filled.sum() + 6.0 * math.sqrt(6.0 * filled.sum())
        # shifts of a varied template, which come from the same events each, are the same shifts
        up, down = (pair[0].varied["photon_energy_scale"][0].values.sum() for pair in (signals[0], signals[1]))
        assert up == pytest.approx(down, rel=0.02)


def test_a_sample_without_radiation() -> None:
    """Physics: of two photons, one found and one lost, nothing but what the beams radiate makes a large recoil mass."""
    totals = []
    for overrides in ((), ("backgrounds.two_photons.radiation=none",)):
        search = load_search(SEARCHES / "single_photon.yaml", overrides=overrides)
        simulation = Simulation(search)
        sample = simulation.chain_sample("two_photons", (), None)
        found = sample.run({"": simulation.detector}, "recoil2(gamma)", [-20.0, 20.0, 60.0])
        totals.append(found.histograms[""].values)
    assert totals[0][1] > 1e-3 * totals[0][0]
    assert totals[1][1] == 0.0
    assert totals[1][0] > 0.0


def test_pseudo_data_are_counts_around_the_expectation() -> None:
    """Catches weights in the data, a sample left out, or a scale that is lost."""
    search = zprime(WHOLE)
    simulation = Simulation(search)
    for point in search.points:
        found = simulation.background(simulation.region_of(point))
        expected = sum(sample.nominal.total for sample in found.backgrounds.values())
        assert np.array_equal(found.observation, np.round(found.observation))
        assert expected > 100.0
        assert abs(found.observation.sum() - expected) < 5.0 * math.sqrt(expected)


def test_an_event_is_in_all_regions_that_select_it() -> None:
    """Invariant: catches regions with data of their own: the tighter one has a part of the looser one."""
    search = zprime(WHOLE, "selection.5.where=m_Zp < 9 GeV", "selection.4.above=1 GeV")
    simulation = Simulation(search)
    tight, loose = (simulation.background(simulation.region_of(point)) for point in search.points)
    assert 0.0 < tight.observation.sum() < loose.observation.sum()
    assert np.all(tight.observation <= loose.observation)


def test_asimov_data_are_the_expectation() -> None:
    """Closed form."""
    search = zprime(WHOLE, "data={kind: asimov}")
    simulation = Simulation(search)
    found = simulation.background(simulation.region_of(search.points[0]))
    assert np.array_equal(found.observation, sum(s.nominal.values for s in found.backgrounds.values()))


def test_a_lifetime_moves_the_efficiency() -> None:
    """Closed form at both ends: all prompt decays lie inside 0.05 cm, and few of 10 km inside 60 cm."""
    efficiencies = []
    for ctau in ("0.00001 mm", "1 cm", "10 km"):
        search = load_search(
            SEARCHES / "b_to_k_scalar.yaml", overrides=(f"signal.lifetimes.S.value={ctau}", "signal.events=20000")
        )
        simulation = Simulation(search)
        point = search.points[1]
        efficiencies.append(simulation.signal(simulation.region_of(point), point)[1])
    prompt, middle, far = efficiencies
    # 0.01 cm of resolution of the vertex puts few prompt decays outside of 0.05 cm
    assert prompt < 1e-3
    assert middle > 0.3
    assert 0.0 < far < 1e-3


def test_the_wrong_vertex_shifts_a_photon_pair() -> None:
    """Physics: photons of a late decay, taken from the origin, have a smaller opening angle, so a smaller mass."""
    text = (SEARCHES / "b_to_k_scalar.yaml").read_text(encoding="utf-8")
    assert "S -> mu+ mu-" in text
    masses = []
    for ctau in ("0.00001 mm", "20 cm"):
        search = load_search(
            SEARCHES / "b_to_k_scalar.yaml",
            overrides=(
                "signal.process='e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ S, S -> gamma gamma'",
                "final_state={found: [K+, gamma, gamma]}",
                "selection=[]",
                "channels.mumu={observable: mass(gamma gamma), range: [0 GeV, 2 GeV], bins: 200, source: assumption}",
                "backgrounds.prompt.process='e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ gamma gamma'",
                f"signal.lifetimes.S.value={ctau}",
            ),
        )
        simulation = Simulation(search)
        region, point = simulation.region_of(search.points[1]), search.points[1]
        values = simulation.signal(region, point)[0].nominal.values
        centres = 0.5 * (region.binning.edges[1:] + region.binning.edges[:-1])
        mean = float(np.sum(values * centres) / values.sum())
        masses.append((mean, math.sqrt(float(np.sum(values * (centres - mean) ** 2) / values.sum()))))
    (prompt, narrow), (late, wide) = masses
    assert prompt == pytest.approx(1.0, abs=0.01)
    assert late < prompt - 0.05
    assert wide > 2.0 * narrow
