"""Counting experiments: windows that meet, what is summed, and their workspaces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import poisson

from modelbuilder.errors import SpecError
from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.inference.choice import LimitRequest, find_limit, open_likelihood
from modelbuilder.scan.point import BuiltPoint, build_point
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import LoadedSearch, load_search

SPEC = Path(__file__).parent / "searches" / "counting.yaml"
NO_SYSTEMATICS = "systematics={}"
STATED_ALONE = (
    "backgrounds.mu_mu_gamma=null",
    "systematics.trigger.on=[signal]",
    "systematics.momentum_resolution=null",
)


def search(*overrides: str) -> LoadedSearch:
    return load_search(SPEC, overrides=overrides)


def built(loaded: LoadedSearch, point: GridPoint) -> tuple[Simulation, RegionTemplates, BuiltPoint]:
    simulation = Simulation(loaded)
    region = simulation.background(simulation.region_of(point))
    return simulation, region, build_point(loaded, simulation, region, point)


def test_windows_are_contiguous_and_a_second_set_is_shifted_by_half() -> None:
    """Closed form: the resolution is a straight line, a - b m, so its grid is geometric in m - a/b.

    Catches windows that overlap or leave a gap, and a grid whose steps drift away from the bins.
    """
    loaded = search()
    (region,) = Simulation(loaded).regions.values()
    windows = [region.binning.window(point.mass) for point in loaded.points]
    assert all(window.stop - window.start == 2 for window in windows)
    assert all(two.start == one.start + 1 for one, two in pairwise(windows))
    end = 1.0 + 6.0 * 200.0 / 180.0  # where the line reaches zero, GeV
    for number, point in enumerate(loaded.points):
        assert point.mass == pytest.approx(end - (end - 2.0) * math.exp(-0.03 * number), abs=2e-4)
        low, high = region.binning.window_edges(point.mass)[[0, -1]]
        one = loaded.points[number - 1].mass if number else None
        assert one is None or low == pytest.approx(one, abs=2e-4)
        assert low < point.mass < high


def test_a_window_is_one_bin() -> None:
    """Second method: the sum of the bins of the same window without `count`, systematics and errors included."""
    grid = "grid.m_Zp.segments=[{values: [2 GeV, 4 GeV], source: assumption}]"
    radiation = "radiation.initial_state=collinear"
    loaded, apart = search(grid, radiation), search(grid, radiation, "channels.recoil.count=false")
    _, region, one = built(loaded, loaded.points[0])
    _, _, many = built(apart, apart.points[0])
    assert one.templates.edges == pytest.approx(many.templates.edges[[0, -1]])
    for found, wanted in (
        (one.templates.signal, many.templates.signal),
        *((one.templates.backgrounds[name], many.templates.backgrounds[name]) for name in region.backgrounds),
    ):
        assert found.nominal.values == pytest.approx([wanted.nominal.values.sum()])
        assert found.nominal.variances == pytest.approx([wanted.nominal.variances.sum()])
        for name, pair in found.varied.items():
            sums = [template.values.sum() for template in wanted.varied[name]]
            assert [float(template.values[0]) for template in pair] == pytest.approx(sums)
    assert one.templates.observation.tolist() == [many.templates.observation.sum()]
    assert not [message for message in one.built.lint if message.rule == "signal-at-edge"]
    (channel,) = one.built.workspace["channels"]
    modifiers = {(s["name"], m["name"]): m["type"] for s in channel["samples"] for m in s["modifiers"]}
    assert modifiers["mu_mu_gamma", "staterror_recoil"] == "staterror"
    assert modifiers["signal", "momentum_resolution"] == "histosys"
    assert modifiers["four_leptons", "rate_of_four_leptons"] == "normsys"
    # a stated expectation has the luminosity only where the spec says so, and no error of a simulation
    assert ("mu_mu_gamma", "lumi") in modifiers
    assert not {("four_leptons", "lumi"), ("four_leptons", "staterror_recoil")} & modifiers.keys()


def test_luminosity_of_a_stated_background() -> None:
    """Catches a list that is read and not used."""
    loaded = search("systematics.lumi.also=[four_leptons]")
    _, _, found = built(loaded, loaded.points[20])
    (channel,) = found.built.workspace["channels"]
    (sample,) = (s for s in channel["samples"] if s["name"] == "four_leptons")
    assert [modifier["name"] for modifier in sample["modifiers"]] == ["lumi", "rate_of_four_leptons"]


def flat_prior_limit(observed: int, background: float, level: float) -> float:
    """Of the expected signal events: posterior of a flat prior, by quadrature."""
    whole = quad(lambda s: poisson.pmf(observed, s + background), 0.0, np.inf)[0]
    return float(
        brentq(lambda up: quad(lambda s: poisson.pmf(observed, s + background), 0.0, up)[0] - level * whole, 0.01, 50.0)
    )


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-7])
def test_limits_of_a_count(scale: float) -> None:
    """Second method: the posterior of a flat prior by quadrature, down to backgrounds of a ten-millionth of an event.

    Catches a small background that is left out, which makes every observed event impossible.
    """
    expected = f"{{recoil: {{events: [{4.0 * scale}], per: 1 GeV, luminosity: 1 fb^-1, source: assumption}}}}"
    loaded = search(*STATED_ALONE, NO_SYSTEMATICS, f"backgrounds.four_leptons.expected={expected}")
    point = loaded.points[0]
    _, _, found = built(loaded, point)
    low, high = found.templates.edges
    background = 0.5 * 4.0 * scale * (high - low)
    assert found.built.background_yield == pytest.approx(background, rel=1e-6)
    signal = found.built.reference * found.templates.signal.nominal.total
    for observed in (0, 1, 3):
        workspace = {**found.built.workspace, "observations": [{"name": "recoil", "data": [float(observed)]}]}
        likelihood, notes = open_likelihood(workspace)
        assert notes == ()
        limit = find_limit(likelihood, LimitRequest(method="bayesian", confidence_level=0.9))
        assert limit.observed * signal == pytest.approx(flat_prior_limit(observed, background, 0.9), rel=1e-3)
    assert "four_leptons" in {sample["name"] for sample in found.built.workspace["channels"][0]["samples"]}


@pytest.mark.parametrize("method", ["cls", "feldman-cousins"])
def test_every_method_takes_one_bin(method: str) -> None:
    """Reference: with no event seen and hardly any expected the limit is 2.44 (Feldman, Cousins, table IV) or, by CLs
    with toys, -ln(0.1) events.
    """
    expected = "{recoil: {events: [0.001], per: 1 GeV, luminosity: 1 fb^-1, source: assumption}}"
    loaded = search(*STATED_ALONE, NO_SYSTEMATICS, f"backgrounds.four_leptons.expected={expected}")
    _, _, found = built(loaded, loaded.points[0])
    assert found.templates.observation.tolist() == [0.0]
    likelihood, _ = open_likelihood(found.built.workspace)
    request = LimitRequest(method=method, confidence_level=0.9, toys=4000)  # type: ignore[arg-type]
    signal = found.built.reference * found.templates.signal.nominal.total
    wanted = {"cls": -math.log(0.1), "feldman-cousins": 2.44}[method]
    assert find_limit(likelihood, request).observed * signal == pytest.approx(wanted, rel=0.03)


def test_visible_cross_section() -> None:
    """By hand: yield over luminosity, and cross section times efficiency. Catches a factor of the window."""
    from modelbuilder.scan.point import limit_rows
    from modelbuilder.scan.points import points_of

    loaded = search(*STATED_ALONE, "statistics.methods=[bayesian]")
    maker, point = points_of(loaded), loaded.points[10]
    (row,) = limit_rows(loaded.spec, maker.made(point, maker.shared([point])))
    values = {
        name: row[f"{name}_observed"] for name in ("yield_events", "visible_cross_section_fb", "cross_section_fb")
    }
    assert isinstance(values["yield_events"], float)
    assert values["visible_cross_section_fb"] == pytest.approx(values["yield_events"] / 0.5)
    assert values["visible_cross_section_fb"] == pytest.approx(
        values["cross_section_fb"] * row["signal_efficiency"], rel=1e-9
    )


CASES: Sequence[tuple[str, str]] = (
    (
        "channels.recoil.bin_width=0.7 resolution",
        "channels.recoil.bin_width: found bins of 0.7 resolution in a window of 2;",
    ),
    ("backgrounds.mu_mu_gamma.rate=free", "backgrounds.mu_mu_gamma.rate: found free, but recoil counts events"),
    ("systematics.lumi.also=[mu_mu_gamma]", "systematics.lumi.also[0]: 'mu_mu_gamma' is simulated: it has this"),
    ("systematics.lumi.also=[four_lepton]", "did you mean 'four_leptons'?"),
    ("systematics.momentum_resolution.on=[four_leptons]", "nothing of 'four_leptons' is simulated, so it has no shape"),
    ("backgrounds.four_leptons.expected.recoil.second=[1]", "the channel has no second observable; remove the key"),
    (
        "channels.recoil={observable: recoil(mu+ mu-), range: [0 GeV, 9 GeV], bins: 9, count: true, source: assumption}",
        "a count is that of a window with `bin_width`; in a fixed range write `bins: 1`, and remove count",
    ),
)


@pytest.mark.parametrize(("override", "message"), CASES)
def test_what_is_refused(override: str, message: str) -> None:
    """Catches a spec that would be fitted as something else than it says."""
    with pytest.raises(SpecError) as caught:
        search(override)
    assert message in str(caught.value)
