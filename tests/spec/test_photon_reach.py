"""Cuts on simulated photons against what a selection can take: refused before anything runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.errors import UserError
from modelbuilder.histograms.simulate import Simulation
from modelbuilder.spec import photon_reach
from modelbuilder.spec.load import LoadedSearch, load_search
from modelbuilder.spec.photon_reach import _Bounds, _reach, warnings_of

SEARCH = Path(__file__).parents[1] / "histograms" / "searches" / "single_photon.yaml"
LAWS = {
    "signal": "{law: photon-vector, min_energy: %s GeV, max_cos: %s}",
    "two": "{law: two-photons, min_energy: %s GeV, max_cos: %s}",
    "three": "{law: three-photons, min_energy: %s GeV, max_cos: %s}",
}


def search(*overrides: str) -> LoadedSearch:
    return load_search(SEARCH, overrides=overrides)


def with_law(sample: str, energy: float, cosine: float) -> str:
    law = "{e+ e-: " + LAWS[sample] % (energy, cosine) + "}"
    return f"signal.laws={law}" if sample == "signal" else f"backgrounds.{sample}_photons.laws={law}"


def test_reach_in_closed_form() -> None:
    """Closed form: an aberration and a Doppler shift along the axis, for beams without an angle and no resolution."""
    experiment = search("experiment.beams.crossing_angle=0 mrad").spec.experiment
    beams = experiment.beams
    beta = (beams.electron_energy - beams.positron_energy) / (beams.electron_energy + beams.positron_energy)
    gamma = 1 / math.sqrt(1 - beta**2)
    low, high, energy = 0.4, 2.5, 0.3
    cosines = np.cos([low, high])
    found = _reach(_Bounds(((low, high),), energy), experiment, sigmas=0.0)
    assert found.max_cos == pytest.approx(np.max(np.abs((cosines - beta) / (1 - beta * cosines))), rel=1e-6)
    assert found.min_energy == pytest.approx(energy * gamma * np.min(1 - beta * cosines), rel=1e-6)


def test_events_beyond_the_reach_are_not_selected() -> None:
    """Second method: the true photons of selected events, made far beyond, lie within; at the edge there are some.

    Catches a margin that forgets the boost, the resolution or the angle between the beams, and one that is much too wide.
    """
    simulation = Simulation(search("backgrounds.two_photons.events=400000"))
    experiment = simulation.spec.experiment
    region = simulation.region_of(simulation.search.points[0])
    sample = simulation.chain_sample("two_photons", region.cuts)
    topology, candidates = sample.topology, sample.candidates
    bounds = photon_reach._bounds(topology, candidates[0], candidates[0].seen[0][0], region.cuts, experiment)
    reach = _reach(bounds, experiment)
    assert bounds.energy_cm == 1.8
    beams = simulation.beams
    half, farthest, softest = 0.5 * beams.crossing_angle, 0.0, math.inf
    for piece in sample.pieces(simulation.detector):
        for candidate, weights in zip(candidates, piece.weights, strict=True):
            p = piece.events.momenta[weights > 0.0, candidate.seen[0][0]]
            minus = beams.electron_energy * (p[:, 0] - p[:, 1] * math.sin(half) - p[:, 3] * math.cos(half))
            plus = beams.positron_energy * (p[:, 0] - p[:, 1] * math.sin(half) + p[:, 3] * math.cos(half))
            farthest = max(farthest, float(np.max(np.abs((plus - minus) / (plus + minus)))))
            softest = min(softest, float(np.min((plus + minus) / beams.sqrt_s)))
    assert reach.max_cos - 0.01 < farthest < reach.max_cos
    assert reach.min_energy < softest


def cuts(*texts: str) -> str:
    """The selection of the search and more."""
    items = (
        "{quantity: energy_cm(gamma), above: 1.8 GeV, source: assumption}",
        *(f"{{{t}, source: assumption}}" for t in texts),
    )
    return f"selection=[{', '.join(items)}]"


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ((with_law("signal", 0.5, 0.95),),
         ("signal.laws: the law 'photon-vector' makes photons up to |cos| = 0.95 in the e+e- frame, but photons that are"
          " found can come from up to 0.9794; raise max_cos to 0.9794 or more, or cut on theta of the photons")),
        ((with_law("two", 0.5, 0.6),),
         ("two_photons.laws: the law 'two-photons' makes photons up to |cos| = 0.6 in the e+e- frame, but photons that are"
          " found can come from up to 0.9794;")),
        ((with_law("two", 1.7, 0.999),),
         ("two_photons.laws: the law 'two-photons' makes photons above 1.7 GeV in the e+e- frame, but photons that are"
          " found can have")),
        ((with_law("three", 0.05, 0.7), cuts("quantity: theta(gamma), between: [60 deg, 90 deg]")),
         ("three_photons.laws: the law 'three-photons' makes photons up to |cos| = 0.7 in the e+e- frame, but the"
          " calorimeter reaches 0.9733: photons that are vetoed, and lost along the beams, are missing; raise max_cos to"
          " 0.999 or more, or cut on recoil_theta of all that is found")),
        (("backgrounds.three_photons.laws={}",),
         ("three_photons.process: cuts on simulated photons follow from the selection only if every photon is found; give"
          " them: {law: three-photons, min_energy: 10 MeV, max_cos: 0.9999}, the values as you need them")),
    ],
)  # fmt: skip
def test_cuts_within_the_selection_are_refused(overrides: tuple[str, ...], reason: str) -> None:
    """Catches a peak of lost photons that is 93 % too low, and an efficiency of 97 % because the rest is never made."""
    with pytest.raises(UserError) as raised:
        search(*overrides)
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        # a cut on the angle makes room
        (with_law("signal", 0.5, 0.8), cuts("quantity: theta_cm(gamma), between: [50 deg, 130 deg]")),
        (with_law("signal", 0.5, 0.8), cuts("quantity: theta(gamma), between: [40 deg, 100 deg]")),
        # one energy without radiation, whatever the cut
        (with_law("two", 4.0, 0.999), "radiation.initial_state=none"),
        # what is lost points away from the beams
        (with_law("three", 0.05, 0.97), cuts("quantity: theta(gamma), between: [60 deg, 90 deg]", "quantity: recoil_theta(gamma), between: [40 deg, 100 deg]")),
    ],
)  # fmt: skip
def test_cuts_beyond_the_selection_pass(overrides: tuple[str, ...]) -> None:
    """Catches a refusal of what cannot lose anything."""
    search(*overrides)


def test_soft_photons_that_are_lost_are_a_warning() -> None:
    """By hand: a photon of 50 MeV is below the threshold up to some energy in the e+e- frame."""
    for energy, expected in ((0.2, 1), (0.01, 0)):
        spec = search(with_law("three", energy, 0.999)).spec
        found = list(warnings_of(spec.backgrounds["three_photons"], spec.final_state, spec.experiment))
        assert len(found) == expected
        assert list(warnings_of(spec.backgrounds["two_photons"], spec.final_state, spec.experiment)) == []
    spec = search(with_law("three", 0.2, 0.999)).spec
    (text,) = warnings_of(spec.backgrounds["three_photons"], spec.final_state, spec.experiment)
    assert "are made only above min_energy = 0.2 GeV in the e+e- frame; softer photons are missing" in text
