"""Sidebands of counting channels: where the events are counted that say how much background there is in the window."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from modelbuilder.spec.base import Source, SpecModel, refusal
from modelbuilder.spec.functions import FactorOfMass, HasSource, RawValue, RelativeSizeOfMass
from modelbuilder.spec.quantities import PositiveResolutions


class SidebandBeside(SpecModel):
    """The same observable beside the window. The transfer factor follows from the expected spectrum."""

    window: PositiveResolutions | None = Field(
        None, description="full width around the mass; the fit window in its middle does not belong to the sideband"
    )
    range: tuple[RawValue, RawValue] | None = Field(None, description="[low, high], with units, in place of window")
    left_out: PositiveResolutions | None = Field(
        None, description="full width around the mass that belongs to no sideband; that of the fit window, if absent"
    )
    source: Source

    @model_validator(mode="after")
    def _has_ends(self) -> SidebandBeside:
        if (self.window is None) == (self.range is None):
            found = "neither window nor range" if self.window is None else "both window and range"
            reason = f"found {found}; give one of them, or `title` and `transfer` where it is another quantity"
            raise refusal(reason)
        return self


class SidebandElsewhere(HasSource):
    """A range of another quantity, for events in the same window."""

    title: str = Field(description="for people, such as 0.5 GeV < E_ECL < 1.5 GeV")
    transfer: FactorOfMass = Field(
        description="background that is expected in the window, over that which is expected in the sideband"
    )
    leakage: RelativeSizeOfMass | None = Field(
        None, description="signal in the sideband over that in the window; none, if absent"
    )


def _kind_of_sideband(value: object) -> str:
    if isinstance(value, dict):
        return "elsewhere" if {"transfer", "title", "leakage"} & value.keys() else "beside the window"
    return "elsewhere" if isinstance(value, SidebandElsewhere) else "beside the window"


AnySideband = Annotated[
    Annotated[SidebandBeside, Tag("beside the window")] | Annotated[SidebandElsewhere, Tag("elsewhere")],
    Discriminator(_kind_of_sideband),
]


def sideband_name(channel: str) -> str:
    """That of the sideband of a channel, where its data are named."""
    return f"{channel}_sideband"


class TransferSystematic(HasSource):
    """A relative uncertainty of the transfer factor between a sideband and the window."""

    kind: Literal["transfer"] = Field(description="the uncertainty of the transfer factor")
    size: RelativeSizeOfMass = Field(description="relative, one standard deviation")
    on: list[str] = Field(min_length=1, description="the background whose rate the sideband measures")
