"""What a limit on the rate means in models: the `interpretations` of a search."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from modelbuilder.spec.base import Name, Source, SpecModel, refusal, shown
from modelbuilder.spec.parameters import QUANTITIES, checked_parameters
from modelbuilder.spec.problems import nearest
from modelbuilder.spec.rates import RATES
from modelbuilder.theory.model import Model, Parameter
from modelbuilder.theory.models import MODELS

UNIT_SUFFIXES = {"GeV^-1": "_per_gev"}
"""How the name of a column ends, by the unit of the coupling; that of a number ends in none of them."""
TAKEN = ("mu", "yield_events", "visible_cross_section_fb", *(rate.column for rate in RATES.values()))
"""Quantities that searches have limits on anyway."""


def _check_model(name: str) -> str:
    if name not in MODELS:
        reason = f"found {shown(name)}, which is not a model{nearest(name, MODELS)}"
        raise refusal(reason)
    return name


def _add_parameters(schema: dict[str, Any]) -> None:
    """The parameters of all models, for editors; which of them a model has is checked when the spec is read."""
    found: dict[str, list[tuple[str, Parameter]]] = {}
    for name, model in MODELS.items():
        for key, parameter in model.parameters.items():
            found.setdefault(key, []).append((name, parameter))
    for key, uses in found.items():
        kinds = [_schema_of(parameter) for _, parameter in uses]
        distinct = [kind for index, kind in enumerate(kinds) if kind not in kinds[:index]]
        about = "; ".join(f"{name}: {parameter.description}" for name, parameter in uses)
        schema["properties"][key] = {
            **(distinct[0] if len(distinct) == 1 else {"anyOf": distinct}),
            "description": about,
        }
    schema["additionalProperties"] = False


def _schema_of(parameter: Parameter) -> dict[str, Any]:
    if parameter.kind != "choice":
        return QUANTITIES[parameter.kind].json_schema()
    choice: dict[str, Any] = {"enum": list(parameter.choices)}
    return {"anyOf": [choice, {"type": "boolean"}]} if "yes" in parameter.choices else choice


class Interpretation(SpecModel):
    """A model of the signal, with its parameters, that the limit on the cross section is turned into a coupling of."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_add_parameters)

    model: Annotated[str, AfterValidator(_check_model), Field(json_schema_extra={"enum": list(MODELS)})] = Field(
        description="cross section, times branching fraction, as a function of mass and coupling"
    )
    source: Source | None = Field(None, description="of the parameters")

    @model_validator(mode="after")
    def _parameters_of_the_model(self) -> Interpretation:
        values = checked_parameters(self.theory, self.model_extra or {})
        if self.source is None and any(not isinstance(values[name], str) for name in self.model_extra or {}):
            reason = "missing; a number needs a source"
            raise refusal(reason, ("source",))
        return self

    @property
    def theory(self) -> Model:
        """The model itself."""
        return MODELS[self.model]

    @functools.cached_property
    def parameters(self) -> dict[str, float | str]:
        """All parameters of the model, in GeV and cm, with the defaults of those that are not written."""
        return checked_parameters(self.theory, self.model_extra or {})

    def masses_at(self, point: Mapping[str, float]) -> tuple[float, ...]:
        """The masses of the model, GeV, at a point of the grid."""
        return tuple(point[name] for name in self.theory.masses or point)

    @property
    def text(self) -> str:
        """`l-mu-l-tau (decay muons, invisible_only no)`"""
        values = (
            f"{name} {value if isinstance(value, str) else f'{value:g}'}" for name, value in self.parameters.items()
        )
        return f"{self.model} ({', '.join(values)})" if self.parameters else self.model


Interpretations = Annotated[
    dict[Name, Interpretation],
    Field(
        default_factory=dict,
        description="models that the limit is turned into a coupling of, by the name of the column; without any, limits are on the cross section",
    ),
]


def default_law(interpretations: Mapping[str, Interpretation]) -> str | None:
    """The law of the production where `signal.laws` names none: that of the first model that has one; None without."""
    return next((found.theory.law for found in interpretations.values() if found.theory.law is not None), None)


def faults_of_names(interpretations: Mapping[str, Interpretation]) -> list[tuple[str, str]]:
    """What is wrong with the names of the columns: each name with the reason."""
    found = []
    for name, interpretation in interpretations.items():
        unit = interpretation.theory.unit
        suffix = UNIT_SUFFIXES.get(unit, "")
        if name in TAKEN:
            found.append((name, f"every search has limits on {name}; choose another name"))
        elif not name.endswith(suffix):
            example = interpretation.theory.coupling
            reason = f"the coupling of {interpretation.model} has the unit {unit}, so the name ends in {suffix!r}, as in {example!r}"
            found.append((name, reason))
        elif not suffix and (wrong := next((end for end in UNIT_SUFFIXES.values() if name.endswith(end)), None)):
            found.append((name, f"the coupling of {interpretation.model} is a number; leave out {wrong!r}"))
    return found
