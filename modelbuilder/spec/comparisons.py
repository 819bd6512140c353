"""What figures of limits show beside them: curves and bands from elsewhere, and the (g - 2) of the muon."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from modelbuilder.spec.base import Source, SpecModel, refusal
from modelbuilder.spec.functions import RawValue, parsed
from modelbuilder.spec.problems import nearest
from modelbuilder.spec.quantities import ENERGY, Number, PositiveNumber, Quantity, as_number
from modelbuilder.theory.muon_moment import LOOPS

CURVE, BAND = ("value",), ("low", "high")
Points = tuple[tuple[float, ...], ...]


class ComparedCurve(SpecModel):
    """A curve, or a band between two, against the mass: columns of a table or of a CSV file."""

    title: str = Field(description="for the legend")
    table: dict[str, list[RawValue]] | None = Field(
        None,
        description="a list of masses named after the grid variable, and `value`, or `low` and `high` of a band",
        examples=[{"m_Zp": ["1 GeV", "2 GeV"], "value": [1e-3, 2e-3]}],
    )
    csv: str | None = Field(None, description="a file with these columns, relative to this one")
    columns: dict[str, str] | None = Field(None, description="of the file", examples=[{"m_Zp": "m_GeV", "value": "g"}])
    units: dict[str, str] | None = Field(None, description="of the columns; empty for numbers")
    source: Source

    @model_validator(mode="after")
    def _a_curve(self) -> ComparedCurve:
        if self.table is not None:
            self.points()
        elif self.csv is None:
            reason = "missing; give `table`, or a `csv` with columns and units"
            raise refusal(reason, ("table",))
        return self

    @property
    def variable(self) -> str:
        """The grid variable that it is drawn against."""
        return next((key for key in self.table or {} if key not in (*CURVE, *BAND)), "")

    @property
    def is_band(self) -> bool:
        """Whether it is one."""
        return "low" in (self.table or {})

    def points(self) -> Points:
        """Masses (GeV), then values, or lower and upper ends, in the unit that the name of the quantity ends with."""
        table = self.table or {}
        wanted = BAND if self.is_band else CURVE
        if set(table) != {self.variable, *wanted} or not self.variable:
            reason = f"found the columns {', '.join(table) or 'none'}; expected the mass, and value, or low and high"
            raise refusal(reason, ("table",))
        mass = Quantity(ENERGY, low=0.0, exclusive=True)
        columns = [tuple(parsed(mass, x, ("table", self.variable, i)) for i, x in enumerate(table[self.variable]))]
        columns += [tuple(_plain(x, ("table", key, i)) for i, x in enumerate(table[key])) for key in wanted]
        lengths = {len(column) for column in columns}
        if len(lengths) > 1 or lengths <= {0, 1}:
            reason = "found columns of different lengths, or fewer than two points"
            raise refusal(reason, ("table",))
        if any(two <= one for one, two in itertools.pairwise(columns[0])):
            reason = "found masses that do not rise; write them in rising order"
            raise refusal(reason, ("table", self.variable))
        return tuple(columns)


def _plain(value: object, at: tuple[str | int, ...]) -> float:
    number = as_number(value)
    if number is None or number[1]:
        reason = f"found {value!r}; expected a number, in the unit that the name of the quantity ends with"
        raise refusal(reason, at)
    return number[0]


class MuonMoment(SpecModel):
    """The couplings whose loop explains a difference of the measured and the predicted (g - 2)/2 of the muon."""

    title: str = Field(description="for the legend")
    muon_moment: Annotated[str, Field(json_schema_extra={"enum": list(LOOPS)})] = Field(description="the model")
    difference: Number = Field(description="measured minus predicted (g - 2)/2", examples=[251e-11])
    error: PositiveNumber = Field(description="its standard deviation")
    sigma: PositiveNumber = Field(2.0, description="standard deviations on each side")
    source: Source

    @model_validator(mode="after")
    def _known(self) -> MuonMoment:
        if self.muon_moment not in LOOPS:
            reason = f"found {self.muon_moment!r}; expected one of {', '.join(LOOPS)}"
            raise refusal(reason, ("muon_moment",))
        return self


def _kind_of(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return "a loop" if "muon_moment" in keys else "a curve"


Comparison = Annotated[
    Annotated[ComparedCurve, Tag("a curve")] | Annotated[MuonMoment, Tag("a loop")], Discriminator(_kind_of)
]
Comparisons = Annotated[
    dict[str, list[Comparison]],
    Field(
        default_factory=dict,
        description="by quantity, such as gprime: curves and bands that its figures show beside the limit",
    ),
]


def faults_of_comparisons(
    comparisons: Mapping[str, Sequence[ComparedCurve | MuonMoment]],
    quantities: Collection[str],
    variables: Collection[str],
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What has no limit to be compared with, or is drawn against another mass. quantities: that have figures."""
    for quantity, found in comparisons.items():
        if quantity not in quantities:
            known = nearest(quantity, quantities) or f"; known: {', '.join(quantities)}"
            yield ("comparisons", quantity), f"found {quantity!r}, which has no figure{known}"
        for index, one in enumerate(found):
            if isinstance(one, ComparedCurve) and one.table is not None and one.variable not in variables:
                reason = f"found the mass {one.variable!r}, which is not on the grid{nearest(one.variable, variables)}"
                yield ("comparisons", quantity, index, "table", one.variable), reason
