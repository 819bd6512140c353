"""pyhf's schema of workspaces as types, for a check a hundred times as fast as that of the JSON Schema.

What passes here is valid by the schema; what does not is for the schema itself to judge, which also says what is wrong.
"""

from __future__ import annotations

from functools import cache
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic cannot use that of `typing` before Python 3.12
)

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

Number = Annotated[float, Field(allow_inf_nan=False)]
Numbers = Annotated[list[Number], Field(min_length=1)]


class _Closed(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]


class _TwoTemplates(_Closed):
    lo_data: Numbers
    hi_data: Numbers


class _TwoFactors(_Closed):
    lo: Number
    hi: Number


class _HistoSys(_Closed):
    type: Literal["histosys"]
    name: str
    data: _TwoTemplates


class _NormSys(_Closed):
    type: Literal["normsys"]
    name: str
    data: _TwoFactors


class _WithoutData(_Closed):
    type: Literal["normfactor", "shapefactor"]
    name: str
    data: None


class _Lumi(_Closed):
    type: Literal["lumi"]
    name: Literal["lumi"]
    data: None


class _BinWise(_Closed):
    type: Literal["shapesys", "staterror"]
    name: str
    data: Numbers


_Modifier = Annotated[_HistoSys | _NormSys | _WithoutData | _Lumi | _BinWise, Field(discriminator="type")]


class _Sample(_Closed):
    name: str
    data: Numbers
    modifiers: list[_Modifier]


class _Channel(_Closed):
    name: str
    samples: Annotated[list[_Sample], Field(min_length=1)]


class _Observation(_Closed):
    name: str
    data: Numbers


class _Parameter(_Closed):
    name: str
    inits: NotRequired[Numbers]
    bounds: NotRequired[Annotated[list[list[Number]], Field(min_length=1)]]
    auxdata: NotRequired[Numbers]
    factors: NotRequired[Numbers]
    sigmas: NotRequired[Numbers]
    fixed: NotRequired[bool]


class _Config(_Closed):
    poi: str
    parameters: list[_Parameter]


class _Measurement(_Closed):
    name: str
    config: _Config


class _Workspace(_Closed):
    channels: Annotated[list[_Channel], Field(min_length=1)]
    measurements: Annotated[list[_Measurement], Field(min_length=1)]
    observations: Annotated[list[_Observation], Field(min_length=1)]
    version: Literal["1.0.0"]


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(_Workspace)


def validated(workspace: object) -> dict[str, Any] | None:
    """A deep copy, in dict, list, str, bool and float, of what is a workspace beyond doubt; None if it is not.

    What is not may still be one.
    """
    try:
        found: dict[str, Any] = _adapter().validate_python(workspace)
    except ValidationError:
        return None
    return found


def is_plainly_valid(workspace: object) -> bool:
    """Whether this is a workspace beyond doubt; if not, it may still be one."""
    return validated(workspace) is not None
