"""Cuts on observables, and the turn-on of a trigger: a closed vocabulary that is parsed, never evaluated as code."""

from __future__ import annotations

import itertools
import math
from typing import Annotated

from pydantic import Discriminator, Field, Tag, model_validator

from modelbuilder.errors import KinematicsError
from modelbuilder.spec.base import Source, SpecModel, WholeNumber, refusal
from modelbuilder.spec.conditions import Condition
from modelbuilder.spec.functions import RawValue, parsed
from modelbuilder.spec.observables import FUNCTIONS, unit_of
from modelbuilder.spec.quantities import ANGLE, ENERGY, ENERGY_SQUARED, LENGTH, NUMBER_OF, Dimension, Fraction, Quantity

_OBSERVABLE = rf"^\s*({'|'.join(sorted(FUNCTIONS, key=len, reverse=True))})\b.*$"
ObservableText = Annotated[str, Field(json_schema_extra={"pattern": _OBSERVABLE})]


class ThresholdTurnOn(SpecModel):
    """Efficiency plateau/2 (1 + erf((x - threshold) / (sqrt(2) width)))."""

    threshold: RawValue = Field(description="where half of the plateau is reached, in the unit of the quantity")
    width: RawValue = Field(description="standard deviation of the quantity as the trigger sees it")
    plateau: Fraction = 1.0


class MeasuredTurnOn(SpecModel):
    """Efficiency at points of the quantity; linear between, constant beyond."""

    values: list[RawValue] = Field(min_length=2, description="rising values of the quantity")
    efficiency: list[Fraction] = Field(min_length=2, description="at these values; linear between, constant beyond")


def _kind_of_turn_on(value: object) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return "a threshold" if "threshold" in keys or "width" in keys else "points"


TurnOn = Annotated[
    Annotated[ThresholdTurnOn, Tag("a threshold")] | Annotated[MeasuredTurnOn, Tag("points")],
    Discriminator(_kind_of_turn_on),
]


class Cut(SpecModel):
    """A cut on an observable, for every combination of particles that it may stand for; or the turn-on of a trigger."""

    quantity: ObservableText = Field(
        description="an observable of the particles that are found", examples=["theta(gamma)", "pt(mu+ mu-)"]
    )
    between: tuple[RawValue, RawValue] | None = Field(None, description="[low, high], with units")
    above: RawValue | None = Field(None, description="with its unit")
    below: RawValue | None = Field(None, description="with its unit")
    turn_on: TurnOn | None = Field(None, description="an efficiency that rises with the quantity")
    at_least: WholeNumber | None = Field(
        None, ge=1, description="so many combinations must pass, not all, as in two of three photons"
    )
    where: Condition | None = None
    source: Source

    @model_validator(mode="after")
    def _complete(self) -> Cut:
        dimension_of(self.quantity)
        forms = [key for key in ("between", "above", "below", "turn_on") if getattr(self, key) is not None]
        if len(forms) != 1:
            found = f"found {' and '.join(forms)}" if forms else "found none"
            reason = f"{found}; a cut has one of between, above, below, turn_on"
            raise refusal(reason)
        if self.turn_on is None:
            low, high = self.bounds
            if not low < high:
                reason = "found the lower end at or above the upper end; write [low, high]"
                raise refusal(reason, (forms[0],))
        elif self.at_least is not None:
            reason = "a turn-on is an efficiency of one combination; remove at_least"
            raise refusal(reason, ("at_least",))
        elif isinstance(self.turn_on, ThresholdTurnOn):
            if self.threshold[1] <= 0.0:
                reason = f"found {self.turn_on.width!r}; a width must be above 0"
                raise refusal(reason, ("turn_on", "width"))
        elif len(self.turn_on.values) != len(self.turn_on.efficiency):
            reason = f"found {len(self.turn_on.values)} values and {len(self.turn_on.efficiency)} efficiencies"
            raise refusal(reason, ("turn_on",))
        elif any(two <= one for (one, _), (two, _) in itertools.pairwise(self.points)):
            reason = "found values that do not rise; write them in rising order"
            raise refusal(reason, ("turn_on", "values"))
        return self

    @property
    def text(self) -> str:
        """The cut as it is written."""
        if self.between is not None:
            low, high = self.between
            text = f"{self.quantity} between {low} and {high}"
        elif self.turn_on is not None:
            text = f"turn-on in {self.quantity}"
        else:
            text = (
                f"{self.quantity} above {self.above}"
                if self.above is not None
                else f"{self.quantity} below {self.below}"
            )
        return text if self.at_least is None else f"{text} ({self.at_least} at least)"

    @property
    def bounds(self) -> tuple[float, float]:
        """Low and high in the unit of the quantity; infinite where there is none."""
        if self.between is not None:
            low, high = (self._parsed(value, "between", index) for index, value in enumerate(self.between))
            return low, high
        low = -math.inf if self.above is None else self._parsed(self.above, "above")
        return low, math.inf if self.below is None else self._parsed(self.below, "below")

    @property
    def threshold(self) -> tuple[float, float, float]:
        """Threshold and width, in the unit of the quantity, and plateau of a turn-on that is given by them."""
        assert isinstance(self.turn_on, ThresholdTurnOn)
        threshold = self._parsed(self.turn_on.threshold, "turn_on", "threshold")
        return threshold, self._parsed(self.turn_on.width, "turn_on", "width"), self.turn_on.plateau

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """Values, in the unit of the quantity, and efficiencies of a turn-on that is given by points."""
        assert isinstance(self.turn_on, MeasuredTurnOn)
        values = [self._parsed(value, "turn_on", "values", i) for i, value in enumerate(self.turn_on.values)]
        return tuple(zip(values, self.turn_on.efficiency, strict=False))

    def _parsed(self, value: object, *at: str | int) -> float:
        return parsed(Quantity(dimension_of(self.quantity)), value, at)


def dimension_of(quantity: str, *at: str) -> Dimension:
    """The dimension of an observable; raises the refusal if it is none, at `quantity` where nothing else is said."""
    try:
        unit = unit_of(quantity)
    except KinematicsError as error:
        raise refusal(str(error), at or ("quantity",)) from None
    return {"GeV": ENERGY, "GeV^2": ENERGY_SQUARED, "rad": ANGLE, "cm": LENGTH}.get(unit, NUMBER_OF)
