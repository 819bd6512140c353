"""What a limit is on: a cross section, the branching fraction of a particle that is made in known number, or a ratio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydantic import Field

from modelbuilder.spec.base import Source, SpecModel
from modelbuilder.spec.quantities import Fraction, PositiveNumber, RelativeSize
from modelbuilder.theory.model import Limits


@dataclass(frozen=True)
class Rate:
    """A kind of rate. column: of the tables, ending with the unit.    text: in words."""

    kind: Limits
    column: str
    unit: str
    text: str

    @property
    def reference(self) -> str:
        """The column with its value at a signal strength of 1."""
        return f"reference_{self.column}"


RATES: Mapping[Limits, Rate] = MappingProxyType(
    {
        "cross section": Rate(
            "cross section", "cross_section_fb", "fb", "cross section times branching fraction, at lowest order"
        ),
        "branching fraction": Rate(
            "branching fraction", "branching_fraction", "", "branching fraction, of the decays that are not stated"
        ),
        "ratio": Rate("ratio", "ratio", "", "branching fraction over that of a background"),
    }
)


class Produced(SpecModel):
    """Particles whose decay is searched for, made in known number: the limit is on a branching fraction."""

    of: str = Field(description="the particle that decays, as in the process: B+, tau-", examples=["B+"])
    number: PositiveNumber = Field(
        description="that were made, particles and antiparticles: 2 N_BB f for one kind of B, twice the pairs for tau"
    )
    uncertainty: RelativeSize = Field(description="relative, one standard deviation")
    source: Source


class KnownFraction(SpecModel):
    """A branching fraction that is known."""

    value: Fraction
    source: Source
