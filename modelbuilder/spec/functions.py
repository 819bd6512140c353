"""Functions of the mass hypothesis: a constant, a table, polynomial coefficients, a CSV column, or pieces of these.

A field says of which dimension its values are, with `FunctionIn`; the forms below are shared by all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import (
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from modelbuilder.spec.base import PlainNumber, Source, SpecModel, refusal
from modelbuilder.spec.conditions import Condition
from modelbuilder.spec.quantities import ENERGY, ENERGY_SQUARED, LENGTH, NUMBER_OF, Quantity
from modelbuilder.spec.triangles import ON_THE_EDGE, Triangles

Interpolation = Literal["linear", "logarithmic", "monotone-cubic", "step"]

_raw_schema = WithJsonSchema({"type": ["string", "number"], "description": "a quantity with its unit, such as '5.5 %'"})
RawValue = Annotated[Any, _raw_schema]


class ConstantForm(SpecModel):
    """The same value at every mass."""

    value: RawValue = Field(description="the value, with its unit")
    source: Source | None = None


class TableForm(SpecModel):
    """Pairs of mass and value, interpolated; or two masses and a value in each place, for a grid of two masses."""

    table: dict[str, list[RawValue]] = Field(
        description="lists of the same length: one, or two, named after grid variables, and one named `value`",
        examples=[{"m_a": ["0.2 GeV", "9.7 GeV"], "value": [0.55, 0.85]}],
    )
    interpolation: Interpolation = Field("linear", description="between the points; logarithmic: in the value")
    outside: Literal["error", "nearest"] = Field("error", description="beyond the ends: refuse, or the nearest value")
    source: Source | None = None


class PolynomialForm(SpecModel):
    """c0 + c1 m + c2 m^2 + ..., with m in GeV."""

    polynomial: list[PlainNumber] = Field(
        min_length=1, description="coefficients, lowest order first; the variable in GeV"
    )
    of: str = Field(description="the grid variable", examples=["m_a"])
    unit: str = Field("", description="the unit of the value", examples=["MeV"])
    source: Source | None = None


class CsvForm(SpecModel):
    """Columns of a CSV file with a header line; lines that begin with # are comments."""

    csv: str = Field(description="path of the file, relative to this one")
    columns: dict[str, str] = Field(
        description="the columns of the grid variables, one or two, and that of `value`",
        examples=[{"m_a": "m_GeV", "value": "sigma_MeV"}],
    )
    units: dict[str, str] = Field(description="the unit of each", examples=[{"m_a": "GeV", "value": "MeV"}])
    interpolation: Interpolation = Field("linear", description="between the points; logarithmic: in the value")
    outside: Literal["error", "nearest"] = Field("error", description="beyond the ends: refuse, or the nearest value")
    source: Source | None = None


class Piece(SpecModel):
    """A value that holds where the condition does."""

    where: Condition
    value: RawValue = Field(description="the value there, with its unit")


class PiecesForm(SpecModel):
    """Different constants in different ranges of mass; exactly one must hold at each grid point."""

    pieces: list[Piece] = Field(min_length=1, description="values with the masses that each holds for")
    source: Source | None = None


FORM_KEYS = ("table", "polynomial", "csv", "pieces", "value")


def _form_of(value: Any) -> str | None:
    """The tag of a form. Tags have a blank: they stand in the locations of pydantic, and must not read like keys."""
    if isinstance(value, str | float | int) and not isinstance(value, bool):
        return "a scalar"
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return next((f"a {key}" for key in FORM_KEYS if key in keys), None)


Form = Annotated[
    Annotated[RawValue, Tag("a scalar")]
    | Annotated[ConstantForm, Tag("a value")]
    | Annotated[TableForm, Tag("a table")]
    | Annotated[PolynomialForm, Tag("a polynomial")]
    | Annotated[CsvForm, Tag("a csv")]
    | Annotated[PiecesForm, Tag("a pieces")],
    Discriminator(
        _form_of,
        custom_error_type="function_form",
        custom_error_message=(
            "expected a value with its unit, or a mapping with one of the keys value, table, polynomial, csv, pieces"
        ),
    ),
]


class Function(Protocol):
    """A function of the grid variables (GeV) that is ready to be evaluated, in the internal unit of its field."""

    @property
    def source(self) -> str | None: ...

    @property
    def variables(self) -> frozenset[str]: ...

    def at(self, point: Mapping[str, float]) -> float:
        """The value at a grid point. Raises ValueError where the function has none."""
        ...


def _text(point: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:g} GeV" for name, value in point.items())


@dataclass(frozen=True)
class Constant:
    value: float
    source: str | None = None

    @property
    def variables(self) -> frozenset[str]:
        return frozenset()

    def at(self, point: Mapping[str, float]) -> float:
        return self.value


@dataclass(frozen=True)
class Table:
    variable: str
    masses: tuple[float, ...]
    values: tuple[float, ...]
    interpolation: Interpolation
    outside: Literal["error", "nearest"]
    source: str | None = None

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({self.variable})

    def at(self, point: Mapping[str, float]) -> float:
        return self.at_mass(point[self.variable])

    def at_mass(self, mass: float) -> float:
        low, high = self.masses[0], self.masses[-1]
        if not low <= mass <= high:
            if self.outside == "error":
                msg = (
                    f"{self.variable} = {mass:g} GeV lies outside of the table ({low:g} to {high:g} GeV); "
                    "add points, or say `outside: nearest`"
                )
                raise ValueError(msg)
            mass = min(max(mass, low), high)
        if self.interpolation == "step":
            return self.values[int(np.searchsorted(self.masses, mass, side="right")) - 1]
        if self.interpolation == "logarithmic":
            return float(np.exp(np.interp(mass, self.masses, np.log(self.values))))
        if self.interpolation == "monotone-cubic":
            from scipy.interpolate import PchipInterpolator  # heavy, and seldom asked for

            return float(PchipInterpolator(self.masses, self.values)(mass))
        return float(np.interp(mass, self.masses, self.values))


@dataclass(frozen=True)
class PlaneTable:
    """Values at pairs of masses; linear, in the value or in its logarithm, over triangles between them."""

    both: tuple[str, str]
    masses: tuple[tuple[float, ...], tuple[float, ...]]
    values: tuple[float, ...]
    interpolation: Interpolation
    outside: Literal["error", "nearest"]
    source: str | None = None

    @property
    def variables(self) -> frozenset[str]:
        return frozenset(self.both)

    @functools.cached_property
    def _triangles(self) -> Triangles:
        return Triangles(np.array(self.masses).T)

    def at(self, point: Mapping[str, float]) -> float:
        found = self._triangles.at(np.array([[point[name] for name in self.both]]))
        if found.outside[0] > ON_THE_EDGE and self.outside == "error":
            pair = {name: point[name] for name in self.both}
            msg = f"{_text(pair)} lies outside of the table; add points, or say `outside: nearest`"
            raise ValueError(msg)
        values = np.array(self.values)
        if self.interpolation == "logarithmic":
            return float(np.exp(found.of(np.log(values))[0]))
        return float(found.of(values)[0])


@dataclass(frozen=True)
class Polynomial:
    variable: str
    coefficients: tuple[float, ...]
    scale: float
    source: str | None = None

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({self.variable})

    def at(self, point: Mapping[str, float]) -> float:
        value = 0.0
        for coefficient in reversed(self.coefficients):
            value = value * point[self.variable] + coefficient
        return self.scale * value


@dataclass(frozen=True)
class Pieces:
    pieces: tuple[tuple[Condition, float], ...]
    source: str | None = None

    @property
    def variables(self) -> frozenset[str]:
        return frozenset().union(*(condition.variables for condition, _ in self.pieces))

    def at(self, point: Mapping[str, float]) -> float:
        found = [value for condition, value in self.pieces if condition.holds(point)]
        if len(found) != 1:
            msg = f"{len(found) or 'none'} of the pieces hold{'' if found else 's'} at {_text(point)}; exactly one must"
            raise ValueError(msg)
        return found[0]


@dataclass(frozen=True)
class Bounded:
    """A function whose values are checked against the bounds of its field wherever it is evaluated."""

    function: Function
    quantity: Quantity

    @property
    def source(self) -> str | None:
        return self.function.source

    @property
    def variables(self) -> frozenset[str]:
        return self.function.variables

    def at(self, point: Mapping[str, float]) -> float:
        value = self.function.at(point)
        if not math.isfinite(value):
            msg = f"found {value} at {_text(point)}; it must be finite"
            raise ValueError(msg)
        if not self.quantity.allows(value):
            self.quantity.check(value, f"found {value:g} at {_text(point)}")
        return value


_MASS = Quantity(ENERGY, low=0.0)


@dataclass(frozen=True)
class FunctionIn:
    """Pydantic marker: turns a form into a function whose values have this dimension and lie within its bounds."""

    quantity: Quantity

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._bounded, handler.generate_schema(Form))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        generated = handler(schema)
        key = "oneOf" if "oneOf" in generated else "anyOf"
        # The first form is a value alone, of which the field knows the unit.
        return {**generated, key: [self.quantity.json_schema(), *generated[key][1:]]}

    def _bounded(self, form: Any) -> Function:
        return Bounded(self._function(form), self.quantity)

    def _function(self, form: Any) -> Function:
        if isinstance(form, str | float | int):
            return Constant(self.quantity.parse(form))
        if isinstance(form, ConstantForm):
            return Constant(parsed(self.quantity, form.value, ("value",)), form.source)
        if isinstance(form, PolynomialForm):
            scale = parsed(Quantity(self.quantity.dimension), f"1 {form.unit}".strip(), ("unit",))
            return Polynomial(form.of, tuple(form.polynomial), scale, form.source)
        if isinstance(form, PiecesForm):
            pieces = tuple(
                (piece.where, parsed(self.quantity, piece.value, ("pieces", index, "value")))
                for index, piece in enumerate(form.pieces)
            )
            return Pieces(pieces, form.source)
        if isinstance(form, CsvForm):
            reason = "a CSV file is read when a spec is loaded; give a table to build a spec in Python"
            raise refusal(reason, ("csv",))
        return self._table(form)

    def _table(self, form: TableForm) -> Table | PlaneTable:
        variables = [key for key in form.table if key != "value"]
        if len(variables) not in (1, 2) or "value" not in form.table:
            keys = ", ".join(form.table) or "nothing"
            reason = f"found the lists {keys}; expected one or two named after grid variables and one named `value`"
            raise refusal(reason, ("table",))
        masses = [
            tuple(parsed(_MASS, mass, ("table", name, index)) for index, mass in enumerate(form.table[name]))
            for name in variables
        ]
        values = tuple(
            parsed(self.quantity, value, ("table", "value", index)) for index, value in enumerate(form.table["value"])
        )
        if any(len(column) != len(values) for column in masses):
            numbers = " and ".join(f"{len(form.table[name])} of {name}" for name in (*variables, "value"))
            reason = f"found lists of different lengths, {numbers}; each mass needs one value"
            raise refusal(reason, ("table",))
        if len(values) < 2:
            reason = f"found lists of length {len(values)}; expected two masses at least; a constant needs no table"
            raise refusal(reason, ("table",))
        if form.interpolation == "logarithmic" and min(values) <= 0.0:
            reason = f"found the value {min(values):g}; logarithmic interpolation needs values above 0"
            raise refusal(reason, ("table", "value", values.index(min(values))))
        if len(variables) == 2:
            return self._plane_table(form, (variables[0], variables[1]), (masses[0], masses[1]), values)
        (variable,), (rising,) = variables, masses
        for index in range(1, len(rising)):
            if rising[index] <= rising[index - 1]:
                reason = f"found {rising[index]:g} GeV after {rising[index - 1]:g} GeV; masses must rise"
                raise refusal(reason, ("table", variable, index))
        return Table(variable, rising, values, form.interpolation, form.outside, form.source)

    @staticmethod
    def _plane_table(
        form: TableForm,
        variables: tuple[str, str],
        masses: tuple[tuple[float, ...], tuple[float, ...]],
        values: tuple[float, ...],
    ) -> PlaneTable:
        if form.interpolation not in ("linear", "logarithmic"):
            reason = f"found {form.interpolation}; between pairs of masses it is linear or logarithmic"
            raise refusal(reason, ("interpolation",))
        pairs = list(zip(*masses, strict=True))
        for index, pair in enumerate(pairs):
            if pair in pairs[:index]:
                reason = f"found {pair[0]:g} GeV and {pair[1]:g} GeV twice; each pair of masses needs one value"
                raise refusal(reason, ("table", variables[0], index))
        table = PlaneTable(variables, masses, values, form.interpolation, form.outside, form.source)
        try:
            table.at(dict(zip(variables, pairs[0], strict=True)))
        except ValueError as error:
            raise refusal(str(error), ("table",)) from None
        return table


def parsed(quantity: Quantity, value: Any, at: tuple[str | int, ...]) -> float:
    """The value in the internal unit; a refusal at `at` if it is not of this quantity."""
    try:
        return quantity.parse(value)
    except PydanticCustomError as error:
        reason = error.message()
        raise refusal(reason, at) from None


Efficiency = Annotated[Function, FunctionIn(Quantity(NUMBER_OF, low=0.0, high=1.0))]
RelativeSizeOfMass = Annotated[Function, FunctionIn(Quantity(NUMBER_OF, low=0.0))]
FactorOfMass = Annotated[Function, FunctionIn(Quantity(NUMBER_OF, low=0.0, exclusive=True))]
PositiveEnergyOfMass = Annotated[Function, FunctionIn(Quantity(ENERGY, low=0.0, exclusive=True))]
PositiveSquaredEnergyOfMass = Annotated[Function, FunctionIn(Quantity(ENERGY_SQUARED, low=0.0, exclusive=True))]
EnergyOfMass = Annotated[Function, FunctionIn(Quantity(ENERGY, low=0.0))]
LengthOfMass = Annotated[Function, FunctionIn(Quantity(LENGTH, low=0.0))]
IntegerOfMass = Annotated[Function, FunctionIn(Quantity(NUMBER_OF, low=0.0))]
CountOfMass = Annotated[Function, FunctionIn(Quantity(NUMBER_OF, low=0.0))]
CorrelationOfMass = Annotated[Function, FunctionIn(Quantity(NUMBER_OF, low=-0.99, high=0.99))]


class HasSource(SpecModel):
    """A part whose numbers need a source, given once for the part or with each function in it."""

    source: Source | None = None

    @model_validator(mode="after")
    def _has_source(self) -> HasSource:
        functions = [value for name in type(self).model_fields if isinstance(value := getattr(self, name), Bounded)]
        if self.source is None and not (functions and all(function.source for function in functions)):
            reason = "missing; say where the numbers come from, for example `source: assumption`"
            raise refusal(reason, ("source",))
        return self
