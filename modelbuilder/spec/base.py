"""What all models of a spec share: strictness, source labels, names."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

SOURCE_LABELS = {
    "read": "read in a paper's abstract, official software or an official record",
    "review": "read in a review or another document that reports the analysis",
    "derived": "computed from formulas that are written down",
    "recalled": "from memory of a paper: verify before quoting",
    "assumption": "our choice, not a published number",
}
_SOURCE = re.compile(rf"({'|'.join(SOURCE_LABELS)})(: \S.*)?", re.DOTALL)
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,39}")


class SpecModel(BaseModel):
    """A part of a spec: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _check_source(text: str) -> str:
    if not _SOURCE.fullmatch(text):
        reason = f"found {text!r}; a source begins with one of {', '.join(SOURCE_LABELS)}, then ': ' and the reference"
        raise PydanticCustomError("source", "{reason}", {"reason": reason})
    return text


def _check_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        reason = f"found {text!r}; a name has letters, digits and underscores, and begins with a letter"
        raise PydanticCustomError("name", "{reason}", {"reason": reason})
    return text


def source_label(source: str) -> str:
    """The label of a source: `read`, `review`, `derived`, `recalled` or `assumption`."""
    return source.split(":", 1)[0]


Source = Annotated[
    str,
    AfterValidator(_check_source),
    Field(
        description="where the number comes from: read, review, derived, recalled or assumption, then the reference",
        json_schema_extra={"pattern": rf"^({'|'.join(SOURCE_LABELS)})(: [\s\S]*)?$"},
    ),
]
Name = Annotated[str, AfterValidator(_check_name)]
