"""What all models of a spec share: strictness, source labels, names."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

SOURCE_LABELS = {
    "read": "read in a paper's abstract, official software or an official record",
    "review": "read in a review or another document that reports the analysis",
    "derived": "computed from formulas that are written down",
    "recalled": "from memory of a paper: verify before quoting",
    "assumption": "our choice, not a published number",
}
_SOURCE = re.compile(rf"({'|'.join(SOURCE_LABELS)})(: \S.*)?", re.DOTALL)
_FILE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,79}")
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,39}")


def shown(value: object) -> str:
    """A value as messages show it: short, and without the contents of mappings and lists."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) < 100 else f"{text[:96]}..."


def refusal(reason: str, at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """The error that a validator raises; `at` leads from the validated value to the fault within it."""
    return PydanticCustomError("refused", "{reason}", {"reason": reason, "at": at})


class SpecModel(BaseModel):
    """A part of a spec: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _add_file(schema: dict[str, Any]) -> None:
    """In the JSON Schema of a table: its columns may be those of a file, which is read before the model sees it."""
    schema["properties"] |= {
        "csv": {"type": "string", "description": "path of a file with these columns, relative to this one"},
        "columns": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "the name that each has in the file",
        },
        "units": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "the unit of each",
        },
    }
    rest = [key for key in schema["required"] if key != "table"]
    schema |= {"required": rest, "oneOf": [{"required": ["table"]}, {"required": ["csv", "columns", "units"]}]}


class TableModel(SpecModel):
    """A part with a `table`, which may stand in a file of its own."""

    model_config = ConfigDict(json_schema_extra=_add_file)


def _check_source(text: str) -> str:
    if not _SOURCE.fullmatch(text):
        labels = ", ".join(SOURCE_LABELS)
        reason = f"found {shown(text)}; a source begins with one of {labels}, then ': ' and the reference"
        raise refusal(reason)
    return text


def _check_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        reason = f"found {shown(text)}; a name has letters, digits and underscores, begins with a letter, 40 at most"
        raise refusal(reason)
    return text


def _check_file_name(text: str) -> str:
    if not _FILE_NAME.fullmatch(text):
        reason = f"found {shown(text)}; use letters, digits, '-', '_' and '.', so that it can name a file"
        raise refusal(reason)
    return text


def source_label(source: str) -> str:
    """The label of a source: `read`, `review`, `derived`, `recalled` or `assumption`."""
    return source.split(":", 1)[0]


Source = Annotated[
    str,
    AfterValidator(_check_source),
    Field(
        description="where the number comes from: read, review, derived, recalled or assumption, then the reference",
        json_schema_extra={"pattern": rf"^({'|'.join(SOURCE_LABELS)})(: \S[\s\S]*)?$"},
    ),
]
Name = Annotated[str, AfterValidator(_check_name)]
FileName = Annotated[str, AfterValidator(_check_file_name)]


def _check_whole(value: Any) -> Any:
    if isinstance(value, bool | str):
        reason = f"found {shown(value)}; expected a whole number"
        raise refusal(reason)
    return value


def _check_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        reason = f"found {shown(value)}; expected a number"
        raise refusal(reason)
    return value


# Pydantic alone would read `true` as 1 and "12" as 12. That 2e5 is a whole number is meant.
WholeNumber = Annotated[int, BeforeValidator(_check_whole)]
PlainNumber = Annotated[float, BeforeValidator(_check_number)]
