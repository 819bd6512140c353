"""Numbers with units, as a spec writes them: `445 pb^-1`, `0.2 GeV`, `83 mrad`, `5.5 %`.

Inside the package there is one unit per quantity, that of its `Dimension`; a value is converted once, here.
Units are parsed by pint; the dimension is checked against what the field needs.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic_core import core_schema

from modelbuilder.spec.base import refusal, shown

if TYPE_CHECKING:
    import pint
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
# Products and quotients of units, each with an exponent of one digit: pint would compute `9^9^9`.
_FACTOR = r"[A-Za-zµ%°_]{1,24}(?:\^-?[0-9])?"
_UNIT = rf"{_FACTOR}(?: ?[ */] ?{_FACTOR}){{0,3}}"
# A blank before `1/fb`: `451/fb` must not be 45 times `1/fb`.
_QUANTITY = re.compile(rf"\s*({NUMBER})(?:\s*({_UNIT})|\s+(1/{_UNIT}))?\s*")
_MAX_LENGTH = 80

_NUMBER_AND_UNIT = rf"^\s*{NUMBER}\s*[A-Za-zµ%°1].*$"


@dataclass(frozen=True)
class Dimension:
    """What a field needs: its name in messages, the internal unit, and an example of a right value."""

    name: str
    unit: str
    example: str


ENERGY = Dimension("an energy", "GeV", "0.2 GeV")
ENERGY_SQUARED = Dimension("a squared energy", "GeV^2", "0.2 GeV^2")
LENGTH = Dimension("a length", "cm", "10 cm")
ANGLE = Dimension("an angle", "rad", "83 mrad")
LUMINOSITY = Dimension("an integrated luminosity", "fb^-1", "445 pb^-1")
CROSS_SECTION = Dimension("a cross section", "fb", "4.5 fb")
NUMBER_OF = Dimension("a number without unit", "", "0.85, or 85 %")
STEP = Dimension("an energy or a number of resolutions", "GeV", "0.5 resolution")
RESOLUTIONS = Dimension("a number of resolutions", "resolution", "0.5 resolution")


@functools.cache
def _registry() -> pint.UnitRegistry[Any]:
    import pint

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry(cache_folder=None)
    registry.define("resolution = [resolution]")
    return registry


@functools.cache
def _factor(unit: str, dimension: Dimension) -> float:
    """The factor from `unit` to the internal unit of the dimension. Raises ValueError with the reason."""
    registry = _registry()
    try:
        found = registry.parse_units(unit)
    except Exception:  # noqa: BLE001  pint raises what its parser meets: tokenizer, attribute and its own errors
        msg = f"the unit {unit!r} is not known; expected {dimension.name}, such as {dimension.example!r}"
        raise ValueError(msg) from None
    wanted = registry.parse_units(dimension.unit)
    one, two = (registry.Quantity(number, found).to_base_units() for number in (1.0, 2.0))
    is_linear = math.isclose(two.magnitude, 2.0 * one.magnitude)  # decibels and degrees Celsius are not
    if not is_linear or one.units != registry.Quantity(1.0, wanted).to_base_units().units:
        msg = f"{unit!r} is not the unit of {dimension.name}; expected for example {dimension.example!r}"
        raise ValueError(msg)
    return float(registry.Quantity(1.0, found).to(wanted).magnitude)


def parse_quantity(value: object, dimension: Dimension) -> float:
    """The value in the internal unit of `dimension`.

    Raises ValueError that says what was found and what would be right.
    """
    found = f"found {shown(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        msg = f"{found}; expected {dimension.name}, such as {dimension.example!r}"
        raise ValueError(msg)  # noqa: TRY004  pydantic turns ValueError into a problem, not TypeError
    if not isinstance(value, str):
        if dimension.unit:
            msg = f"{found} without a unit; expected {dimension.name}, such as {dimension.example!r}"
            raise ValueError(msg)
        return float(value)
    match = _QUANTITY.fullmatch(value) if len(value) <= _MAX_LENGTH else None
    if match is None:
        msg = f"{found}; expected {dimension.name}, such as {dimension.example!r}"
        raise ValueError(msg)
    number, unit = float(match[1]), match[2] or match[3] or ""
    if not math.isfinite(number):
        msg = f"{found}; a number must be finite"
        raise ValueError(msg)
    if not unit and dimension.unit:
        msg = f"{found} without a unit; expected {dimension.name}, such as {dimension.example!r}"
        raise ValueError(msg)
    if not unit:
        return number
    try:
        converted = float(f"{number * _factor(unit, dimension):.15g}")  # 95 % is 0.95, not 0.9500000000000001
    except ValueError as error:
        msg = f"{found}: {error}"
        raise ValueError(msg) from None
    if not math.isfinite(converted):
        msg = f"{found}; a number must be finite, in {dimension.unit} too"
        raise ValueError(msg)
    return converted


def as_number(value: object) -> tuple[float, str] | None:
    """A number in base units, and these, so that values of one dimension can be compared; None for other text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value), ""
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) and len(value) <= _MAX_LENGTH else None
    if match is None:
        return None
    unit = match[2] or match[3]
    if not unit:
        return float(match[1]), ""
    try:
        found = _registry().Quantity(1.0, _registry().parse_units(unit)).to_base_units()
    except Exception:  # noqa: BLE001  pint raises what its parser meets
        return None
    base = "" if found.unitless else str(found.units)
    return float(f"{float(match[1]) * float(found.magnitude):.15g}"), base


@dataclass(frozen=True)
class Quantity:
    """Pydantic marker: a quantity of this dimension, within the bounds, as a float in the internal unit.

    low, high: bounds in the internal unit.    exclusive: whether `low` itself is refused.
    """

    dimension: Dimension
    low: float | None = None
    high: float | None = None
    exclusive: bool = False

    def parse(self, value: object) -> float:
        try:
            number = parse_quantity(value, self.dimension)
            self.check(number, f"found {shown(value)}")
        except ValueError as error:
            reason = str(error)
            raise refusal(reason) from None
        return number

    def allows(self, number: float) -> bool:
        above = self.low is None or (number > self.low if self.exclusive else number >= self.low)
        return above and (self.high is None or number <= self.high)

    def check(self, number: float, found: str) -> None:
        """Raises ValueError, beginning with `found`, where the number lies outside of the bounds."""
        unit = f" {self.dimension.unit}" if self.dimension.unit else ""
        if self.low is not None and (number < self.low or (self.exclusive and number == self.low)):
            msg = f"{found}; it must be {'above' if self.exclusive else 'at least'} {self.low:g}{unit}"
            raise ValueError(msg)
        if self.high is not None and number > self.high:
            percent = " (100 %)" if not unit and self.high == 1.0 else ""
            msg = f"{found}; it must be at most {self.high:g}{unit}{percent}"
            raise ValueError(msg)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.json_schema()

    def json_schema(self) -> dict[str, Any]:
        """What an editor can know: that a value is text with a number and a unit, and what it is."""
        text = {"type": "string", "pattern": _NUMBER_AND_UNIT, "examples": [self.dimension.example]}
        if self.dimension.unit:
            return {**text, "description": f"{self.dimension.name}, such as {self.dimension.example!r}"}
        return {"anyOf": [{"type": "number"}, text], "description": f"{self.dimension.name}: {self.dimension.example}"}


Energy = Annotated[float, Quantity(ENERGY, low=0.0)]
PositiveEnergy = Annotated[float, Quantity(ENERGY, low=0.0, exclusive=True)]
Angle = Annotated[float, Quantity(ANGLE, low=0.0)]
Luminosity = Annotated[float, Quantity(LUMINOSITY, low=0.0, exclusive=True)]
CrossSection = Annotated[float, Quantity(CROSS_SECTION, low=0.0)]
Fraction = Annotated[float, Quantity(NUMBER_OF, low=0.0, high=1.0)]
RelativeSize = Annotated[float, Quantity(NUMBER_OF, low=0.0)]
Count = Annotated[float, Quantity(NUMBER_OF, low=0.0)]
Number = Annotated[float, Quantity(NUMBER_OF)]
PositiveNumber = Annotated[float, Quantity(NUMBER_OF, low=0.0, exclusive=True)]
PositiveStep = Annotated[float, Quantity(STEP, low=0.0, exclusive=True)]
PositiveResolutions = Annotated[float, Quantity(RESOLUTIONS, low=0.0, exclusive=True)]
Length = Annotated[float, Quantity(LENGTH, low=0.0)]
Position = Annotated[float, Quantity(LENGTH)]
