"""Workspaces of our search, as stock pyhf reads them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyhf
import pytest

from modelbuilder.histograms import bernstein
from modelbuilder.histograms.templates import SampleTemplates, Template
from modelbuilder.inference import AsymptoticCalculator, PyhfLikelihood
from modelbuilder.workspace.build import (
    MAX_RATE,
    SMALLEST_CHANGE,
    build_workspace,
    reference_rate,
)

from .conftest import ETA, MASSES, PI0, Point

Points = Callable[..., Point]


class Model:
    """A workspace in stock pyhf, with parameters by name."""

    def __init__(self, workspace: dict[str, Any]) -> None:
        self.workspace = pyhf.Workspace(copy.deepcopy(workspace))
        self.model = self.workspace.model()

    def expected(self, **values: float) -> np.ndarray:
        config = self.model.config
        point = list(config.suggested_init())
        for name, value in values.items():
            point[config.par_map[name]["slice"].start] = value
        return np.array(self.model.expected_data(point, include_auxdata=False))

    def background(self, **values: float) -> np.ndarray:
        return self.expected(mu=0.0, **values)

    def signal(self, **values: float) -> np.ndarray:
        return self.expected(mu=1.0, **values) - self.background(**values)


@pytest.mark.parametrize("mass", MASSES)
def test_stock_pyhf_takes_it(point_at: Points, mass: float) -> None:
    """Catches anything beyond plain HistFactory, and numbers or names that JSON or pyhf would refuse."""
    found = point_at(mass)
    text = json.dumps(found.workspace, allow_nan=False)
    pyhf.schema.validate(json.loads(text), "workspace.json")
    model = Model(json.loads(text))
    assert model.model.config.poi_name == "mu"
    types = {kind for _, kind in model.model.config.modifiers}
    assert types <= {"normfactor", "normsys", "histosys", "lumi"}
    data = model.workspace.data(model.model, include_auxdata=False)
    assert data == found.templates.observation.tolist()
    assert np.isfinite(model.model.logpdf(model.model.config.suggested_init(), model.workspace.data(model.model))).all()


@pytest.mark.parametrize("mass", MASSES)
def test_names(point_at: Points, mass: float) -> None:
    """Catches a channel or measurement that a reader of the workspace alone could not place."""
    found = point_at(mass)
    (channel,) = found.workspace["channels"]
    assert channel["name"] == ("diphoton" if mass < 6.85 else "recoil")
    (measurement,) = found.workspace["measurements"]
    assert measurement["name"] == found.point.name == f"m_a_{found.point.mass:.4f}".replace(".", "p")


@pytest.mark.parametrize("mass", MASSES)
def test_nominal_yields_are_the_templates(point_at: Points, mass: float) -> None:
    """Catches a normalisation that is lost on the way: signal exactly, background as close as a fit can be."""
    found = point_at(mass)
    model = Model(found.workspace)
    reference = found.built.reference
    assert model.signal() == pytest.approx(reference * found.templates.signal.nominal.values, rel=1e-12, abs=1e-12)
    # events, not entries: cross section times luminosity times efficiency
    assert found.built.signal_yield == pytest.approx(reference * 0.445 * found.templates.efficiency, rel=1e-12)
    assert 0.8 < float(model.signal().sum()) / found.built.signal_yield < 3.0
    expected = np.sum([sample.nominal.values for sample in found.templates.backgrounds.values()], axis=0)
    assert found.built.background_yield == pytest.approx(float(expected.sum()), rel=1e-12)
    total = model.background()
    assert np.all(total > 0.0)
    # as an experiment would see it: the fit of a polynomial differs by much less than the data fluctuate
    chi_square = float(np.sum((total - expected) ** 2 / total))
    assert chi_square < 0.5 * len(expected)
    # where all coefficients are inside their bounds the weighted fit keeps the sum, to the peaks that are left out
    assert total.sum() == pytest.approx(expected.sum(), abs=0.3 * np.sqrt(expected.sum()))


@pytest.mark.parametrize("mass", MASSES)
def test_polynomial(point_at: Points, mass: float) -> None:
    """Catches an order that is not that of the spec, a rate that can go negative, or one that starts off the fit."""
    found = point_at(mass)
    order = 2 if mass <= 0.5 else 4 if mass < 6.85 else 5
    names = [name for name in found.samples if name.startswith("three_photon")]
    assert names == [f"three_photon_bernstein_{k}" for k in range(order + 1)]
    parameters = {p["name"]: p for p in found.workspace["measurements"][0]["config"]["parameters"]}
    coefficients = bernstein.fit(
        found.templates.backgrounds["three_photon"].nominal.values, found.templates.edges, order
    )
    for name, coefficient in zip(names, coefficients, strict=True):
        assert found.modifiers(name) == {name: {"name": name, "type": "normfactor", "data": None}}
        ((low, high),) = parameters[name]["bounds"]
        (start,) = parameters[name]["inits"]
        assert low == 0.0
        assert high >= MAX_RATE
        assert start * sum(found.samples[name]["data"]) == pytest.approx(coefficient, rel=1e-9, abs=1e-9)


def test_a_model_with_another_production_is_warned_of(point_at: Points) -> None:
    """Catches a coupling that is found with the efficiency of another process, without a word."""

    def found(*overrides: str) -> list[str]:
        lint = point_at(3.0, *overrides).built.lint
        return [message.message for message in lint if message.rule == "other-law"]

    assert found() == []
    (text,) = found("interpretations.gprime={model: l-mu-l-tau, decay: invisible}")
    assert text == (
        "the production is simulated with the law 'photon-pseudoscalar', that of l-mu-l-tau is 'leptons-vector'; "
        "gprime has the efficiency of the former"
    )


@pytest.mark.parametrize("mass", MASSES)
def test_yields_are_linear_in_mu(point_at: Points, mass: float) -> None:
    """Invariant: catches a signal that acts on anything but its own sample."""
    model = Model(point_at(mass).workspace)
    none, one, seven = (model.expected(mu=mu) for mu in (0.0, 1.0, 7.0))
    assert seven - none == pytest.approx(7.0 * (one - none), rel=1e-9, abs=1e-9)
    assert np.all(one >= none)


@pytest.mark.parametrize("mass", MASSES)
def test_rate_systematics_are_those_of_the_table(point_at: Points, mass: float) -> None:
    """Reference: 8 % up to 4 GeV and 5.5 % above, on the signal; 0.67 % luminosity on all that is simulated."""
    model = Model(point_at(mass).workspace)
    size = 0.08 if mass <= 4.0 else 0.055
    assert model.signal(selection_efficiency=1.0) == pytest.approx((1.0 + size) * model.signal(), rel=1e-9, abs=1e-9)
    assert model.signal(selection_efficiency=-1.0) == pytest.approx(model.signal() / (1.0 + size), rel=1e-9, abs=1e-9)
    assert model.background(selection_efficiency=1.0) == pytest.approx(model.background(), rel=1e-12)
    assert model.signal(lumi=1.01) == pytest.approx(1.01 * model.signal(), rel=1e-9, abs=1e-9)
    lumi = model.model.config.param_set("lumi")
    assert lumi.sigmas == [0.0067]
    assert lumi.auxdata == [1.0]
    assert lumi.suggested_bounds == [pytest.approx((1.0 - 5 * 0.0067, 1.0 + 5 * 0.0067))]


def test_luminosity_and_rate_of_a_peak(point_at: Points) -> None:
    """Catches a systematic that misses the peaking backgrounds, or that scales the free polynomial as well."""
    found = point_at(ETA)
    model = Model(found.workspace)
    peak = found.templates.backgrounds["eta"].nominal.values
    assert sum(found.samples["eta"]["data"]) == pytest.approx(float(peak.sum()), rel=1e-12)
    nominal = model.background()
    assert model.background(lumi=1.01) - nominal == pytest.approx(0.01 * peak, rel=1e-6, abs=1e-9)
    assert model.background(peaking_rate=1.0) - nominal == pytest.approx(0.5 * peak, rel=1e-6, abs=1e-9)
    assert model.background(peaking_rate=-1.0) - nominal == pytest.approx(peak / 1.5 - peak, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["photon_energy_scale", "mass_resolution"])
@pytest.mark.parametrize("mass", [0.2, 3.0, 9.69])
def test_shape_systematics_are_the_varied_templates(point_at: Points, mass: float, name: str) -> None:
    """Catches up and down exchanged, and variations that are not scaled with their nominal."""
    found = point_at(mass)
    model = Model(found.workspace)
    reference = found.built.reference
    up, down = found.templates.signal.varied[name]
    assert model.signal(**{name: 1.0}) == pytest.approx(reference * up.values, rel=1e-9, abs=1e-9)
    assert model.signal(**{name: -1.0}) == pytest.approx(reference * down.values, rel=1e-9, abs=1e-9)


def test_spurious_signal_is_the_shape_of_the_signal(point_at: Points) -> None:
    """Reference: catches a wrong size or sign; one sigma is what a fit finds in the simulated spectrum, or its error."""
    base = point_at(3.0)
    values = base.templates.signal.nominal.values
    polynomial = np.array([80.0, 150.0, 90.0, 200.0, 60.0]) @ bernstein.basis(base.templates.edges, 4)
    per_fb = 30.0 / values.sum()
    for size, error in ((30.0, 0.0), (-30.0, 0.0)):
        spectrum = Template(polynomial + np.sign(size) * per_fb * values, np.full_like(values, error))
        backgrounds = {**base.templates.backgrounds, "three_photon": SampleTemplates(spectrum)}
        found = Point(base.search, base.point, replace(base.templates, backgrounds=backgrounds))
        model = Model(found.workspace)
        nominal = model.background()
        for pull in (-1.0, 1.0, 0.5):
            change = model.background(background_shape=pull) - nominal
            assert change == pytest.approx(pull * 30.0 * values / values.sum(), rel=1e-5, abs=1e-9)
        assert sum(found.samples["background_shape"]["data"]) == 0.0
    # a simulation so small that it could have made the 30 events by chance
    noisy = {**base.templates.backgrounds, "three_photon": SampleTemplates(Template(spectrum.values, 1e3 * polynomial))}
    found = Point(base.search, base.point, replace(base.templates, backgrounds=noisy))
    one_sigma = found.modifiers("background_shape")["background_shape"]["data"]["hi_data"]
    assert sum(one_sigma) > 2.0 * 30.0  # what the simulation leaves open is the uncertainty
    assert "background_shape" in rules(found)["few-simulated-events"]


def test_peaks_are_there_where_they_matter(point_at: Points) -> None:
    """Catches a meson whose peak is left out at its own mass, or that burdens fits gigaelectronvolts away."""
    peaks = {"pi0", "eta", "eta_prime"}
    assert "eta" in point_at(ETA).samples
    assert "eta_prime" not in point_at(ETA).samples
    assert (
        "pi0" in point_at(0.2, "backgrounds.pi0.cross_section.value=40 fb").samples
    )  # the window goes down to 0.10 GeV
    for mass in (3.0, 5.5, 6.84, 6.88, 9.69):
        assert peaks.isdisjoint(point_at(mass).samples)
    assert PI0 < 0.2


def test_a_free_peak_has_a_rate_and_no_luminosity(point_at: Points) -> None:
    """Catches a free rate that fights with the luminosity, and one that is dropped for being small."""
    found = point_at(3.0, "backgrounds.eta.rate=free", "systematics.peaking_rate.on=[pi0, eta_prime]")
    modifiers = found.modifiers("eta")
    assert modifiers["eta_rate"]["type"] == "normfactor"
    assert "lumi" not in modifiers
    assert "peaking_rate" not in modifiers


@pytest.mark.parametrize("mass", [0.2, ETA, 1.5, 3.0, 5.5, 6.88, 8.0, 9.69])
def test_the_expected_limit_is_of_order_one(point_at: Points, mass: float) -> None:
    """Catches a reference cross section that puts mu where neither pyhf nor a reader would look for it."""
    found = point_at(mass)
    reference = found.built.reference
    assert f"{reference:.0e}" == f"{reference:.6e}".replace(".000000", "")  # one digit
    limit = AsymptoticCalculator(PyhfLikelihood(found.workspace)).upper_limit(method="cls")
    assert 0.1 < limit.expected[2] < 10.0
    assert 0.1 < limit.expected[0] < limit.expected[4] < 10.0


def test_reference_rate_by_hand() -> None:
    """Reference: one bin with 100 expected events and 1 event per fb is sensitive to about 2 x 10 + 3 fb."""
    one = np.array([1.0])
    assert reference_rate(one, np.array([100.0])) == 20.0
    assert reference_rate(one, np.array([1e6])) == 2000.0
    assert reference_rate(np.array([0.0]), np.array([100.0])) == 1.0
    assert 3.0 <= reference_rate(one, np.array([0.0])) < 4.0


def test_nothing_is_left_out_in_silence(point_at: Points) -> None:
    """Catches a systematic of the table that neither acts nor is mentioned."""
    for mass in MASSES:
        found = point_at(mass)
        acting = {name for sample in found.samples for name in found.modifiers(sample)}
        mentioned = " ".join(str(message) for message in found.built.lint)
        left_out = {"peaking_rate"} if not {"pi0", "eta", "eta_prime"} & set(found.samples) else set()
        for name in set(found.search.spec.systematics) - left_out:
            assert name in acting or name in mentioned, (mass, name)


# ---------------------------------------------------------------------------------------- symmetrised and pruned


def rebuilt(found: Point, up: np.ndarray, down: np.ndarray) -> Point:
    """The same point with these changes, relative to the nominal signal, as the energy scale."""
    signal = found.templates.signal
    zero = np.zeros_like(signal.nominal.values)
    scale = (Template(signal.nominal.values * (1.0 + up), zero), Template(signal.nominal.values * (1.0 + down), zero))
    changed = SampleTemplates(signal.nominal, {**signal.varied, "photon_energy_scale": scale})
    return Point(found.search, found.point, replace(found.templates, signal=changed))


def rules(found: Point) -> dict[str, str]:
    return {message.rule: str(message) for message in found.built.lint}


@pytest.mark.parametrize(
    ("up", "down", "mirrored"), [(1.0, 0.5, 1.0), (0.5, 1.0, -1.0), (1.0, 0.0, 1.0), (0.0, 1.0, -1.0)]
)
def test_one_sided_variations_are_mirrored(point_at: Points, up: float, down: float, mirrored: float) -> None:
    """Reference: catches one-sided variations that are kept: the larger one goes to the other side too, and it is said."""
    base = point_at(3.0)
    slope = np.linspace(-0.1, 0.1, len(base.templates.observation))
    found = rebuilt(base, up * slope, down * slope)
    nominal = np.array(found.samples["signal"]["data"])
    data = found.modifiers("signal")["photon_energy_scale"]["data"]
    assert np.array(data["hi_data"]) == pytest.approx(nominal * (1.0 + mirrored * slope), rel=1e-12, abs=1e-12)
    assert np.array(data["lo_data"]) == pytest.approx(nominal * (1.0 - mirrored * slope), rel=1e-12, abs=1e-12)
    assert "photon_energy_scale: one-sided" in rules(found)["symmetrised"]
    assert "alp_gammagamma_2018.yaml" in rules(found)["symmetrised"]


def test_variations_to_both_sides_stay_as_they_are(point_at: Points) -> None:
    """Catches a symmetrisation of what need not be: an asymmetric variation is information."""
    base = point_at(3.0)
    slope = np.linspace(-0.1, 0.1, len(base.templates.observation))
    found = rebuilt(base, slope, -0.4 * slope)
    nominal = np.array(found.samples["signal"]["data"])
    data = found.modifiers("signal")["photon_energy_scale"]["data"]
    assert np.array(data["hi_data"]) == pytest.approx(nominal * (1.0 + slope), rel=1e-12, abs=1e-12)
    assert np.array(data["lo_data"]) == pytest.approx(nominal * (1.0 - 0.4 * slope), rel=1e-12, abs=1e-12)
    assert "symmetrised" not in rules(found)


def test_tiny_variations_are_pruned(point_at: Points) -> None:
    """Catches a rule that is off by its threshold, and a pruning that nobody is told of."""
    base = point_at(3.0)
    sign = np.where(np.arange(len(base.templates.observation)) % 2, 1.0, -1.0)
    below, above = (rebuilt(base, f * SMALLEST_CHANGE * sign, -f * SMALLEST_CHANGE * sign) for f in (0.9, 1.1))
    assert "photon_energy_scale" not in below.modifiers("signal")
    assert "photon_energy_scale" in rules(below)["pruned"]
    assert "photon_energy_scale" in above.modifiers("signal")


def test_no_variation_expects_negative_events(point_at: Points) -> None:
    """Catches a template below zero at one sigma, which only a wild simulation gives."""
    base = point_at(3.0)
    ones = np.ones(len(base.templates.observation))
    found = rebuilt(base, -1.5 * ones, 1.5 * ones)
    data = found.modifiers("signal")["photon_energy_scale"]["data"]
    assert min(data["hi_data"]) >= 0.0
    assert build_workspace(found.search, found.point, found.templates).workspace == found.workspace
