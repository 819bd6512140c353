"""The models that a spec can name."""

from __future__ import annotations

import math

import pytest

from modelbuilder.theory.models import MODELS

SQRT_S = 10.58
PARAMETERS: dict[str, dict[str, float | str]] = {
    "alp-photon": {},
    "l-mu-l-tau": {"decay": "invisible", "invisible_only": "no"},
}


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("mass", [0.1, 1.0, 5.0, 8.0, 10.5])
def test_coupling_and_cross_section_are_inverse(name: str, mass: float) -> None:
    """Invariant: catches a model whose two directions do not belong together, and a number where it is closed."""
    model, parameters = MODELS[name], PARAMETERS[name]
    for coupling in (1e-6, 2.3e-3, 1.0):
        there = model.cross_section(SQRT_S, (mass,), coupling, parameters)
        if there == 0.0:
            assert mass == 10.5
            excluded = model.excluded(SQRT_S, (mass,), 1.0, parameters)
            assert (excluded.lower, excluded.upper) == (math.inf, None)
        else:
            excluded = model.excluded(SQRT_S, (mass,), there, parameters)
            assert excluded.lower == pytest.approx(coupling, rel=1e-12)
            assert excluded.upper is None
            assert model.excluded(SQRT_S, (mass,), 0.0, parameters).lower == 0.0


@pytest.mark.parametrize(("mass", "fraction"), [(0.1, 1.0), (0.3, 0.53), (1.0, 0.5), (8.0, 0.34)])
def test_only_neutrinos_are_invisible(mass: float, fraction: float) -> None:
    """Reference: below 2 m_mu all decays, near 1/2 between the thresholds, near 1/3 above that of the tau."""
    model = MODELS["l-mu-l-tau"]
    some, all_of_it = (
        model.cross_section(SQRT_S, (mass,), 1.0, {"decay": "invisible", "invisible_only": only})
        for only in ("no", "yes")
    )
    assert some / all_of_it == pytest.approx(fraction, abs=0.03)


def test_the_unit_is_that_of_the_column() -> None:
    """Catches a column whose name has another unit than its description."""
    for model in MODELS.values():
        assert model.coupling.endswith("_per_gev") == (model.unit == "GeV^-1")
