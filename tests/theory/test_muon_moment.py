"""(g - 2) of the muon: closed limits, quadrature, and the band of couplings."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad

from modelbuilder.theory import muon_moment
from modelbuilder.theory.constants import MUON_MASS
from modelbuilder.theory.models import MODELS
from modelbuilder.theory.muon_moment import DIFFERENCE, DIFFERENCE_2025, Difference, coupling_band

NUMERATORS = {
    "vector": lambda x: 2 * x * (1 - x) ** 2,
    "scalar": lambda x: (1 - x) ** 2 * (1 + x),
}


@pytest.mark.parametrize("kind", sorted(NUMERATORS))
@pytest.mark.parametrize("mass", [1e-6, 1e-3, 0.05, MUON_MASS, 2 * MUON_MASS, 1.0, 10.0, 100.0])
def test_loop_is_its_integral(kind: str, mass: float) -> None:
    """Second method: the form with the other Feynman parameter, by adaptive quadrature in pieces."""
    r = (mass / MUON_MASS) ** 2
    near = np.logspace(-7, -0.4, 15)
    breaks = [0.0, *near, *(1 - near[::-1]), 1.0]
    total = math.fsum(
        quad(lambda x: NUMERATORS[kind](x) / ((1 - x) ** 2 + x * r), low, high, epsabs=1e-14, epsrel=1e-9)[0]
        for low, high in itertools.pairwise(breaks)
    )
    expected = 0.3**2 / (8 * math.pi**2) * total
    assert getattr(muon_moment, kind)(mass, 0.3) == pytest.approx(expected, rel=1e-8)


def test_limit_of_a_light_particle() -> None:
    """Closed form: Schwinger's alpha'/(2 pi) with alpha' = g^2/(4 pi), and three halves of it for a scalar."""
    coupling = 1e-3
    schwinger = coupling**2 / (4 * math.pi) / (2 * math.pi)
    assert muon_moment.vector(1e-8, coupling) == pytest.approx(schwinger, rel=1e-6)
    assert muon_moment.scalar(1e-8, coupling) == pytest.approx(1.5 * schwinger, rel=1e-6)


def test_limit_of_a_heavy_particle() -> None:
    """Closed form: g^2 m_mu^2/(12 pi^2 m^2), and g^2 m_mu^2/(8 pi^2 m^2) (ln(m^2/m_mu^2) - 7/6) for a scalar."""
    mass = 1000.0
    r = (mass / MUON_MASS) ** 2
    assert muon_moment.vector(mass, 1.0) == pytest.approx(1 / (12 * math.pi**2 * r), rel=1e-5)
    expected = (math.log(r) - 7 / 6) / (8 * math.pi**2 * r)
    assert muon_moment.scalar(mass, 1.0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("model", sorted(muon_moment.LOOPS))
def test_edges_of_the_band_give_the_edges_of_the_difference(model: str) -> None:
    """Invariant: the loop at both edges is the difference plus and minus so many standard deviations."""
    assert MODELS[model].unit == ""
    for mass, n_sigma in ((0.01, 1.0), (0.3, 2.0), (5.0, 2.0)):
        edges = coupling_band(model, mass, n_sigma=n_sigma)
        found = [muon_moment.LOOPS[model](mass, edge) for edge in edges]
        assert found == pytest.approx(
            [DIFFERENCE.value - n_sigma * DIFFERENCE.error, DIFFERENCE.value + n_sigma * DIFFERENCE.error], rel=1e-12
        )


def test_size_of_the_z_prime_band() -> None:
    """By hand: g' = sqrt(8 pi^2 251e-11) = 4.45e-4 for a very light Z'."""
    low, high = coupling_band("l-mu-l-tau", 1e-5, n_sigma=0.0)
    assert low == high == pytest.approx(4.45e-4, rel=2e-3)


def test_a_difference_that_needs_no_loop() -> None:
    """Catches the root of a negative number, and a lower edge where 0 is good enough."""
    low, high = coupling_band("l-mu-l-tau", 0.1, difference=DIFFERENCE_2025)
    assert low == 0.0
    assert high > 0.0
    none = coupling_band("l-mu-l-tau", 0.1, difference=Difference(value=-3e-9, error=1e-9, source="assumption"))
    assert all(math.isnan(edge) for edge in none)


def test_the_difference_says_that_it_was_not_read() -> None:
    """Catches a number from memory that is promoted to a quotation."""
    assert DIFFERENCE.source.startswith("recalled: ")
