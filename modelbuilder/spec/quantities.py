"""Numbers with units, as a spec writes them: `445 pb^-1`, `0.2 GeV`, `83 mrad`, `5.5 %`.

Inside the package there is one unit per quantity (`INTERNAL_UNITS`); a value is converted once, here.
Units are parsed by pint; the dimension is checked against what the field needs.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic_core import PydanticCustomError, core_schema

if TYPE_CHECKING:
    import pint
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_QUANTITY = re.compile(rf"\s*({NUMBER})\s*([A-Za-zµ%°][A-Za-zµ%°0-9/*^ -]{{0,30}}|1/[A-Za-z][A-Za-z0-9^]{{0,20}})?\s*")
_LONG_EXPONENT = re.compile(r"\^ *-? *[0-9]{2}|\*\*|\d{3}")

_NUMBER_AND_UNIT = rf"^\s*{NUMBER}\s*[A-Za-zµ%°1].*$"


@dataclass(frozen=True)
class Dimension:
    """What a field needs: its name in messages, the internal unit, and an example of a right value."""

    name: str
    unit: str
    example: str


ENERGY = Dimension("an energy", "GeV", "0.2 GeV")
LENGTH = Dimension("a length", "cm", "10 cm")
ANGLE = Dimension("an angle", "rad", "83 mrad")
LUMINOSITY = Dimension("an integrated luminosity", "fb^-1", "445 pb^-1")
CROSS_SECTION = Dimension("a cross section", "fb", "4.5 fb")
NUMBER_OF = Dimension("a number without unit", "", "0.85, or 85 %")
RESOLUTIONS = Dimension("a number of resolutions", "resolution", "0.5 resolution")

INTERNAL_UNITS = {"energy": "GeV", "length": "cm", "angle": "rad", "luminosity": "fb^-1", "cross section": "fb"}


@functools.cache
def _registry() -> pint.UnitRegistry[Any]:
    import pint  # noqa: PLC0415  a third of a second that only a spec with units needs to pay

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry(cache_folder=None)
    registry.define("resolution = [resolution]")
    return registry


@functools.cache
def _factor(unit: str, dimension: Dimension) -> float:
    """The factor from `unit` to the internal unit of the dimension. Raises ValueError with the reason."""
    registry = _registry()
    if _LONG_EXPONENT.search(unit):
        msg = f"the unit {unit!r} is not understood; write {dimension.example!r}"
        raise ValueError(msg)
    try:
        found = registry.parse_units(unit)
    except Exception:  # noqa: BLE001  pint raises what its parser meets: tokenizer, attribute and its own errors
        msg = f"the unit {unit!r} is not known; expected {dimension.name}, such as {dimension.example!r}"
        raise ValueError(msg) from None
    wanted = registry.parse_units(dimension.unit)
    base_found, base_wanted = registry.Quantity(1.0, found).to_base_units(), registry.Quantity(1.0, wanted).to_base_units()
    if base_found.units != base_wanted.units:
        msg = f"{unit!r} is not the unit of {dimension.name}; expected for example {dimension.example!r}"
        raise ValueError(msg)
    return float(registry.Quantity(1.0, found).to(wanted).magnitude)


def parse_quantity(value: object, dimension: Dimension) -> float:
    """The value in the internal unit of `dimension`.

    Raises ValueError that says what was found and what would be right.
    """
    found = f"found {value!r}"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        msg = f"{found}; expected {dimension.name}, such as {dimension.example!r}"
        raise ValueError(msg)  # noqa: TRY004  pydantic turns ValueError into a problem, not TypeError
    if not isinstance(value, str):
        if dimension.unit:
            msg = f"{found} without a unit; expected {dimension.name}, such as {dimension.example!r}"
            raise ValueError(msg)
        return float(value)
    match = _QUANTITY.fullmatch(value)
    if match is None:
        msg = f"{found}; expected {dimension.name}, such as {dimension.example!r}"
        raise ValueError(msg)
    number, unit = float(match[1]), (match[2] or "").strip()
    if number - number != 0.0:
        msg = f"{found}; a number must be finite"
        raise ValueError(msg)
    if not unit and dimension.unit:
        msg = f"{found} without a unit; expected {dimension.name}, such as {dimension.example!r}"
        raise ValueError(msg)
    if not unit:
        return number
    try:
        return float(f"{number * _factor(unit, dimension):.15g}")  # 95 % is 0.95, not 0.9500000000000001
    except ValueError as error:
        msg = f"{found}: {error}"
        raise ValueError(msg) from None


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
            self.check(number, f"found {value!r}")
        except ValueError as error:
            raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None
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
            msg = f"{found}; it must be at most {self.high:g}{unit}"
            raise ValueError(msg)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
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
Number = Annotated[float, Quantity(NUMBER_OF)]
PositiveResolutions = Annotated[float, Quantity(RESOLUTIONS, low=0.0, exclusive=True)]
