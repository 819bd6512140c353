"""The parameters of a model as a spec writes them."""

from __future__ import annotations

import re

import pytest
from pydantic_core import PydanticCustomError

from modelbuilder.spec.parameters import checked_parameters
from modelbuilder.theory.model import Model, Parameter

MODEL = Model(
    coupling="g",
    unit="",
    symbol="g",
    law="photon-pseudoscalar",
    power=2,
    rate=lambda sqrt_s, masses, coupling, parameters: coupling**2,
    parameters={
        "decay": Parameter(kind="choice", description="what is looked for", choices=("muons", "taus")),
        "only": Parameter(kind="choice", description="nothing else", choices=("no", "yes"), default="no"),
        "length": Parameter(kind="length", description="of the detector", default=300.0),
        "alpha_d": Parameter(kind="number", description="dark coupling", default=0.1),
        "max_cos": Parameter(kind="fraction", description="cut", default=0.6),
    },
)


def test_values_come_in_the_units_of_the_package_with_the_defaults() -> None:
    """By hand: catches a unit that is not converted, a default that hides what was given, and a lost parameter."""
    found = checked_parameters(MODEL, {"decay": "taus", "length": "1.25 m", "alpha_d": "0.5", "only": True})
    assert found == {"decay": "taus", "only": "yes", "length": 125.0, "alpha_d": 0.5, "max_cos": 0.6}


@pytest.mark.parametrize(
    ("given", "at", "message"),
    [
        ({}, (), "the model needs decay (what is looked for): write one of muons, taus"),
        ({"decay": "electrons"}, ("decay",), "found 'electrons'; write one of muons, taus"),
        ({"decay": 3}, ("decay",), "found 3; write one of muons, taus"),
        (
            {"decay": "muons", "max_cosine": 0.6},
            ("max_cosine",),
            "the model has no such parameter; did you mean 'max_cos'? It has decay, only, length, alpha_d, max_cos",
        ),
        ({"decay": "muons", "length": 3}, ("length",), "found 3 without a unit; expected a length, such as '10 cm'"),
        (
            {"decay": "muons", "length": "3 GeV"},
            ("length",),
            "found '3 GeV': 'GeV' is not the unit of a length; expected for example '10 cm'",
        ),
        ({"decay": "muons", "alpha_d": 0}, ("alpha_d",), "found 0; it must be above 0"),
        ({"decay": "muons", "max_cos": 1.2}, ("max_cos",), "found 1.2; it must be at most 1 (100 %)"),
    ],
)
def test_what_is_refused(given: dict[str, object], at: tuple[str, ...], message: str) -> None:
    """Catches a parameter that is ignored or guessed, and a message that leads to the wrong place."""
    with pytest.raises(PydanticCustomError, match=f"^{re.escape(message)}$") as caught:
        checked_parameters(MODEL, given)
    assert caught.value.context is not None
    assert caught.value.context["at"] == at


def test_a_model_without_parameters_says_so() -> None:
    """Catches an empty list of what there is."""
    model = Model(coupling="g", unit="", symbol="g", law="", power=2, rate=MODEL.rate)
    with pytest.raises(ValueError, match=r"^the model has no parameters$"):
        checked_parameters(model, {"decay": "muons"})
