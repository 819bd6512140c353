"""Injected signals: a model that is right gives them back, and one that is wrong shows by how much."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from modelbuilder.errors import FitFailure
from modelbuilder.scan.injection import FEW_EVENTS, _Thrower

BINS = 20
FLAT = np.full(BINS, 400.0)
PEAK = np.zeros(BINS)
PEAK[9:11] = 10.0


def workspace(*, lumi: float = 0.0) -> dict[str, Any]:
    """A peak on a flat background of free rate; with a luminosity of 10 % where asked for."""
    modifiers: list[dict[str, Any]] = [{"name": "mu", "type": "normfactor", "data": None}]
    if lumi:
        modifiers.append({"name": "eff", "type": "normsys", "data": {"hi": 1.0 + lumi, "lo": 1.0 / (1.0 + lumi)}})
    rate = {"name": "rate", "type": "normfactor", "data": None}
    return {
        "version": "1.0.0",
        "channels": [
            {
                "name": "c",
                "samples": [
                    {"name": "signal", "data": PEAK.tolist(), "modifiers": modifiers},
                    {"name": "flat", "data": FLAT.tolist(), "modifiers": [rate]},
                ],
            }
        ],
        "observations": [{"name": "c", "data": FLAT.tolist()}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
    }


def closed_form_sigma(mu: float = 0.0) -> float:
    """Of mu, from the Fisher information of the two rates."""
    expected = FLAT + mu * PEAK
    ss, sb, bb = (float(np.sum(a * b / expected)) for a, b in ((PEAK, PEAK), (PEAK, FLAT), (FLAT, FLAT)))
    return 1.0 / math.sqrt(ss - sb * sb / bb)


def test_right_model_gives_signals_back() -> None:
    """Closed form: catches a strength in wrong units, toys of another signal than the injected one, an uncertainty that
    is not that of the estimate, and estimates that are cut off at zero (their mean pull would be 0.4).
    """
    thrower = _Thrower(workspace(), FLAT, stream="x", seed=3)
    assert thrower.sigma == pytest.approx(closed_form_sigma(), rel=1e-6)
    for strength in (0.0, 4.0):
        found = thrower.injection(strength, 1000)
        assert found.mu == pytest.approx(strength * closed_form_sigma(), rel=1e-6)
        assert found.events == pytest.approx(20.0 * found.mu, rel=1e-12)
        assert abs(found.bias) < 1e-5
        pulls = found.pulls
        assert pulls is not None
        assert abs(pulls.mean) < 4.0 * pulls.mean_error + 0.02
        assert abs(pulls.width - 1.0) < 4.0 * pulls.width_error + 0.02
        assert pulls.mean_error == pytest.approx(1.0 / math.sqrt(1000), rel=0.15)
        assert pulls.n_failed == pulls.n_cut_off == 0


def test_background_that_the_model_cannot_follow_is_a_bias() -> None:
    """Closed form: catches pseudo-data that are thrown from the fitted model in place of the simulated background: a
    bump as large as 1.5 standard deviations of the signal must come out as a bias of that size.
    """
    size = 1.5 * closed_form_sigma()
    thrower = _Thrower(workspace(), FLAT + size * PEAK, stream="x", seed=3)
    found = thrower.injection(0.0, 400)
    expected = size / closed_form_sigma(size)
    assert found.bias == pytest.approx(expected, rel=1e-3)
    assert found.pulls is not None
    assert abs(found.pulls.mean - expected) < 4.0 * found.pulls.mean_error + 0.05
    alone = thrower.injection(0.0, 0)
    assert (alone.bias, alone.pulls) == (found.bias, None)


def test_auxiliary_measurements_are_thrown() -> None:
    """Second method: catches toys with the auxiliary data left at their nominal values. A strong signal of which the
    efficiency is known to 30 % has an uncertainty of mostly that; with fixed auxiliary data the pulls would be narrow,
    of width sqrt(statistical variance/total variance) = 0.5.
    """
    thrower = _Thrower(workspace(lumi=0.3), FLAT, stream="x", seed=3)
    strength = 12.0
    relative = closed_form_sigma(strength * thrower.sigma) / (strength * thrower.sigma)
    assert relative < 0.15
    found = thrower.injection(strength, 1000)
    assert found.pulls is not None
    assert abs(found.pulls.width - 1.0) < 0.15


def test_few_events_shift_no_estimate() -> None:
    """Closed form: a count above a known background. Its estimate, count less background, has the injected mean and
    variance whatever the number of events, while the pull is skewed. Catches a shift in units of each toy's own error;
    and toys without any event, where the estimate is on its bound and nothing else is known, that fail.
    """
    one = workspace()
    one["channels"][0]["samples"][0]["data"] = [4.0]
    one["channels"][0]["samples"][1] = {"name": "flat", "data": [0.5], "modifiers": []}
    one["observations"][0]["data"] = [1.0]
    thrower = _Thrower(one, np.array([0.5]), stream="x", seed=3)
    assert thrower.peak_background < FEW_EVENTS
    pulls = thrower.injection(5.0, 4000).pulls
    assert pulls is not None
    assert abs(pulls.shift) < 4.0 * pulls.shift_error + 0.01
    assert abs(pulls.scatter - 1.0) < 4.0 * pulls.scatter_error + 0.01
    assert pulls.mean < -0.15
    assert pulls.n_failed == 0
    assert 0.5 * math.exp(-4.0) < pulls.n_cut_off / 4000 < 1.5 * math.exp(-4.0)


def test_windows_without_events_are_cut_off() -> None:
    """Closed form: as many toys as Poisson has without an event. There the background is nothing too, and the signal
    strength, on its bound, changes nothing: catches toys that count as failed, or make the whole point a failure.
    """
    one = workspace()
    few = FLAT * 1e-4
    one["channels"][0]["samples"][1]["data"] = few.tolist()
    pulls = _Thrower(one, few, stream="x", seed=3).injection(0.0, 500).pulls
    assert pulls is not None
    assert pulls.n_failed == 0
    assert pulls.n_cut_off >= 500 * math.exp(-float(few.sum())) - 4.0 * math.sqrt(125.0)


def test_fits_that_fail_are_named() -> None:
    """Catches a failed fit that is a number: a background rate without events to tell it, beside an empty window."""
    thrower_of = workspace()
    thrower_of["channels"][0]["samples"].append(
        {"name": "nothing", "data": [0.0] * BINS, "modifiers": [{"name": "idle", "type": "normfactor", "data": None}]}
    )
    with pytest.raises(FitFailure, match="singular-hessian"):
        _Thrower(thrower_of, FLAT, stream="x", seed=3)


def test_same_toys_whatever_is_injected_before() -> None:
    """Invariant: catches random numbers that depend on the order of work."""
    one = _Thrower(workspace(), FLAT, stream="x", seed=3)
    one.injection(0.0, 100)
    again = _Thrower(workspace(), FLAT, stream="x", seed=3)
    assert one.injection(2.0, 100) == again.injection(2.0, 100)
    other = _Thrower(workspace(), FLAT, stream="y", seed=3)
    assert one.injection(2.0, 100) != other.injection(2.0, 100)
