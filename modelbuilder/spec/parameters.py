"""The parameters of a model as a spec writes them: `{alpha_d: 0.1, mass_ratio: 3}`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from modelbuilder.spec.base import refusal, shown
from modelbuilder.spec.quantities import ENERGY, LENGTH, NUMBER_OF, Quantity
from modelbuilder.theory.model import Model, Parameter

QUANTITIES = {
    "number": Quantity(NUMBER_OF, low=0.0, exclusive=True),
    "fraction": Quantity(NUMBER_OF, low=0.0, high=1.0),
    "energy": Quantity(ENERGY, low=0.0, exclusive=True),
    "length": Quantity(LENGTH, low=0.0, exclusive=True),
}


def checked_parameters(model: Model, given: Mapping[str, object]) -> dict[str, float | str]:
    """Every parameter of the model, in the unit of the package (GeV, cm), with the defaults of those not given.

    Raises a ValueError of pydantic, for use in a validator, that leads to the fault: an unknown name, one that is
    missing, a value of another kind, without its unit or out of range.
    """
    for name in given:
        if name not in model.parameters:
            reason = _unknown(name, model.parameters)
            raise refusal(reason, (name,))
    values: dict[str, float | str] = {}
    for name, parameter in model.parameters.items():
        if name in given:
            values[name] = _value(parameter, given[name], (name,))
        elif parameter.default is not None:
            values[name] = parameter.default
        else:
            reason = f"the model needs {name} ({parameter.description}): {_example(parameter)}"
            raise refusal(reason)
    return values


def _value(parameter: Parameter, found: object, at: tuple[str | int, ...]) -> float | str:
    if parameter.kind != "choice":
        try:
            return QUANTITIES[parameter.kind].parse(found)
        except ValueError as error:
            raise refusal(str(error), at) from None
    if isinstance(found, bool):  # `true` of a JSON file
        found = "yes" if found else "no"
    if found not in parameter.choices:
        reason = f"found {shown(found)}; {_example(parameter)}"
        raise refusal(reason, at)
    return str(found)


def _example(parameter: Parameter) -> str:
    if parameter.kind == "choice":
        return f"write one of {', '.join(parameter.choices)}"
    dimension = QUANTITIES[parameter.kind].dimension
    return f"write {dimension.name}, such as {dimension.example!r}"


def _unknown(name: str, known: Iterable[str]) -> str:
    names = list(known)
    if not names:
        return "the model has no parameters"
    near = get_close_matches(name, names, n=1)
    question = f"did you mean {near[0]!r}? " if near else ""
    return f"the model has no such parameter; {question}It has {', '.join(names)}"
