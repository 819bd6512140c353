"""Limits of counts with uncertain rates: against exact counting, the quadrature of any likelihood, and pyhf's factors."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.stats import poisson

from modelbuilder.inference.bayesian import bayesian_counting_limit, bayesian_upper_limit
from modelbuilder.inference.choice import LimitRequest, find_limit
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.counting import background_quantiles, counting_limit, counting_model, expected_counts
from modelbuilder.inference.feldman_cousins import feldman_cousins_counting

Json = dict[str, Any]


def rate(name: str, size: float) -> Json:
    return {"name": name, "type": "normsys", "data": {"hi": 1.0 + size, "lo": 1.0 / (1.0 + size)}}


def shape(name: str, high: float, low: float) -> Json:
    return {"name": name, "type": "histosys", "data": {"hi_data": [high], "lo_data": [low]}}


def one_bin(
    n: float,
    signal: float = 5.0,
    backgrounds: dict[str, float] | None = None,
    modifiers: dict[str, list[Json]] | None = None,
    lumi: float = 0.0,
    stat: dict[str, float] | None = None,
) -> Json:
    """A counting experiment. modifiers: by sample.    lumi: of all samples.    stat: errors of backgrounds."""
    samples = []
    for name, events in {"signal": signal, **(backgrounds or {"b": 3.0})}.items():
        own = list((modifiers or {}).get(name, []))
        if name == "signal":
            own.insert(0, {"name": "mu", "type": "normfactor", "data": None})
        if lumi:
            own.append({"name": "lumi", "type": "lumi", "data": None})
        if name in (stat or {}):
            own.append({"name": "staterror_c", "type": "staterror", "data": [(stat or {})[name]]})
        samples.append({"name": name, "data": [events], "modifiers": own})
    parameters: list[Json] = [{"name": "mu", "inits": [1.0], "bounds": [[0.0, 20.0]]}]
    if lumi:
        bounds = [[1.0 - 5.0 * lumi, 1.0 + 5.0 * lumi]]
        parameters.append({"name": "lumi", "inits": [1.0], "bounds": bounds, "auxdata": [1.0], "sigmas": [lumi]})
    return {
        "channels": [{"name": "c", "samples": samples}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": parameters}}],
        "observations": [{"name": "c", "data": [float(n)]}],
        "version": "1.0.0",
    }


@pytest.mark.parametrize(("n", "b"), [(0, 0.05), (2, 3.0), (9, 3.0), (55, 60.0), (30, 60.0)])
def test_without_uncertainties_it_is_exact(n: float, b: float) -> None:
    """Closed form, observed and all expected limits."""
    found = counting_limit(one_bin(n, 4.0, {"b": b}), confidence_level=0.9)
    exact = bayesian_counting_limit(n, b, signal=4.0, confidence_level=0.9)
    assert found is not None
    assert (found.observed, *(found.expected or ())) == pytest.approx(
        (exact.observed, *(exact.expected or ())), rel=1e-9
    )
    assert found.n_nuisances == 0


CASES = {
    "of the signal": one_bin(2, modifiers={"signal": [rate("e", 0.1), rate("f", 0.2)]}),
    "of the background": one_bin(7, modifiers={"b": [rate("y", 0.3)]}),
    "large, of few events": one_bin(4, 15.0, {"b": 0.5}, {"signal": [rate("e", 0.3)], "b": [rate("y", 0.8)]}),
    "of both, apart": one_bin(40, 15.0, {"b": 60.0}, {"signal": [rate("e", 0.1)], "b": [rate("y", 0.2)]}),
    "one of both": one_bin(40, 15.0, {"b": 60.0}, {"signal": [rate("e", 0.1)], "b": [rate("e", 0.1)]}),
    "luminosity": one_bin(5, 3.0, {"b": 4.0}, {"signal": [rate("e", 0.1)], "b": [rate("y", 0.1)]}, lumi=0.05),
    "of one of two": one_bin(12, 5.0, {"b": 6.0, "c": 4.0}, {"b": [rate("y", 0.2)], "c": [rate("z", 0.5)]}),
    "of finite simulation": one_bin(8, 5.0, {"b": 6.0, "c": 1.0}, {"b": [rate("y", 0.1)]}, stat={"b": 1.0, "c": 0.4}),
    "an excess": one_bin(95, 15.0, {"b": 60.0}, {"signal": [rate("e", 0.1)], "b": [rate("y", 0.1)]}),
    "asymmetric": one_bin(
        3, modifiers={"b": [{"name": "y", "type": "normsys", "data": {"hi": 1.4, "lo": 0.9}}]}
    ),
    "a shape of one sample": one_bin(7, modifiers={"b": [shape("h", 3.5, 2.5)]}),
    "a shape of both": one_bin(
        9, 5.0, {"b": 6.0, "c": 4.0},
        {"signal": [shape("h", 5.6, 4.5), rate("e", 0.1)], "b": [shape("h", 5.5, 6.6)], "c": [rate("z", 0.5)]},
    ),
    "a rate of different sizes": one_bin(
        12, 5.0, {"b": 6.0, "c": 4.0}, {"signal": [rate("e", 0.1)], "b": [rate("e", 0.4)], "c": [rate("e", 0.2)]}
    ),
    "a rate and a shape of one name": one_bin(9, 5.0, {"b": 6.0}, {"b": [rate("h", 0.2), shape("h", 6.9, 5.3)]}),
    "few of many": one_bin(
        2, 9.0, {"b": 5.0, "c": 5.0},
        {"signal": [shape("h", 9.9, 8.1)], "b": [rate("y", 0.22), shape("h", 5.2, 4.7)],
         "c": [rate("y", 0.22), rate("z", 0.5)]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("workspace", CASES.values(), ids=list(CASES))
def test_uncertainties_against_quadrature_of_the_likelihood(workspace: Json) -> None:
    """Second method: the posterior of the whole likelihood on a grid of all parameters.

    Catches a constraint that acts on the wrong samples, is taken twice, or is not the one that pyhf has. The third
    derivative of a variation jumps at one sigma where its sides differ, which few nodes follow less well.
    """
    model = counting_model(workspace)
    found = counting_limit(workspace, confidence_level=0.95)
    other = bayesian_upper_limit(CompiledLikelihood(workspace), confidence_level=0.95)
    assert found is not None
    assert model is not None
    assert found.observed == pytest.approx(other.observed, rel=2e-5 if model.apart else 2e-6)


@pytest.mark.parametrize("workspace", CASES.values(), ids=list(CASES))
def test_expected_limits_are_limits_of_counts(workspace: Json) -> None:
    """The expected limits rise, and each is the observed one of a count: catches a band of another model."""
    found = counting_limit(workspace, confidence_level=0.9)
    model = counting_model(workspace)
    assert found is not None
    assert found.expected is not None
    assert model is not None
    for n, expected in zip(background_quantiles(model), found.expected, strict=True):
        seen = {**workspace, "observations": [{"name": "c", "data": [n]}]}
        again = counting_limit(seen, confidence_level=0.9)
        assert again is not None
        assert again.observed == pytest.approx(expected, rel=1e-5)
    assert all(one <= two for one, two in itertools.pairwise(found.expected))


def test_quantiles_of_the_count() -> None:
    """Against toys of the background with its uncertainty: catches quantiles of the Poisson distribution alone."""
    model = counting_model(one_bin(0, 5.0, {"b": 60.0}, {"b": [rate("y", 0.3)]}))
    assert model is not None
    alpha = np.random.default_rng(2).standard_normal(400_000)
    toys = np.sort(np.random.default_rng(3).poisson(60.0 * 1.3**alpha))
    shares = [0.02275013, 0.15865525, 0.5, 0.84134475, 0.97724987]
    expected = [toys[int(share * len(toys))] for share in shares]
    assert background_quantiles(model) == pytest.approx(expected, abs=1.01)
    assert background_quantiles(model)[4] > poisson.ppf(shares[4], 60.0) + 20


def test_expected_limits_of_many_uncertainties_against_toys() -> None:
    """Toys of counts alone, each with its limit by sampling of all nuisance parameters: another way for every part."""
    background = [rate("y", 0.22), rate("w", 0.02), rate("t", 0.05), shape("h", 3.1, 2.9)]
    workspace = one_bin(
        3, 5.0, {"b": 3.0}, {"signal": [rate("e", 0.12), rate("t", 0.05), shape("h", 5.4, 4.6)], "b": background}
    )
    found = counting_limit(workspace, confidence_level=0.9)
    assert found is not None
    assert found.n_nuisances == 5
    likelihood = CompiledLikelihood(workspace)
    alphas = np.random.default_rng(7).standard_normal((4, 20_000))
    means = 3.0 * 1.22 ** alphas[0] * 1.02 ** alphas[1] * 1.05 ** alphas[2] * (1.0 + 0.1 / 3.0 * alphas[3])
    counts, number = np.unique(np.random.default_rng(8).poisson(means), return_counts=True)
    limits = {
        n: bayesian_upper_limit(likelihood, [n, *likelihood.observed_data[1:]], seed=n).observed
        for n in counts[:10].tolist()
    }
    below = np.cumsum(number) / 20_000
    expected = [
        limits[counts[np.searchsorted(below, share)]] for share in (0.02275013, 0.15865525, 0.5, 0.84134475, 0.97724987)
    ]
    assert found.expected == pytest.approx(expected, rel=0.01)


def test_expected_interval_of_feldman_and_cousins() -> None:
    """Without uncertainties: the exact intervals of the quantiles of the count. Catches a band of other counts."""
    workspace = one_bin(4, 1.0, {"b": 3.0})
    counts = expected_counts(workspace)
    assert counts == [0.0, 1.0, 3.0, 5.0, 7.0]
    request = LimitRequest(method="feldman-cousins", confidence_level=0.9, toys=4000)
    limit = find_limit(CompiledLikelihood(workspace), request, counts=counts)
    exact = [feldman_cousins_counting(int(n), 3.0).upper for n in counts]
    assert limit.expected == pytest.approx(exact, rel=0.08)
    assert find_limit(CompiledLikelihood(workspace), request).expected is None


def test_what_it_leaves_to_others() -> None:
    """Catches a shape that can empty the bin, a free rate, or a second bin that is taken for a plain count."""
    free = one_bin(3, modifiers={"b": [{"name": "k", "type": "normfactor", "data": None}]})
    emptying = one_bin(3, modifiers={"b": [shape("h", 4.0, 2.0)]})
    two = one_bin(3)
    two["channels"][0]["samples"][0]["data"] = [5.0, 5.0]
    for workspace in (free, emptying, two):
        assert counting_model(workspace) is None
    assert counting_limit(one_bin(2500, 5.0, {"b": 3000.0}, {"b": [rate("y", 0.5)]}), confidence_level=0.9) is None
