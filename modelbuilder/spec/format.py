"""Specs in one form: indentation, blanks, quotes and units; comments and the order of keys stay as they are."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, ScalarString, SingleQuotedScalarString

from modelbuilder.errors import InputFileError, SpecError, UserError
from modelbuilder.spec.quantities import NUMBER, as_number
from modelbuilder.spec.tree import parse_tree, plain, read_text

WIDTH = 120
"""A mapping in braces that does not fit is written line by line; texts and lists stay on one line."""
_UNLIMITED = 1_000_000
_TIGHT = re.compile(rf"({NUMBER})\s*([A-Za-zµ%°].*)")


def formatted(text: str, file: str) -> str:
    """The text of a YAML spec in its one form. Formatting twice changes nothing.

    Raises SpecError if it cannot be read. What it says stays the same but for blanks before units: `5.5%` is `5.5 %`.
    """
    before = parse_tree(text, file)
    if before.problems:
        raise SpecError(tuple(before.problems))
    content = _spaced(_yaml().load(text))
    _break_long(content, 0)
    lines = [line.rstrip() for line in _dumped(content).splitlines()]
    found = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"
    after = parse_tree(found, file)
    if after.problems or _canonical(plain(after.root)) != _canonical(plain(before.root)):
        msg = f"{file}: cannot be formatted without changing what it says; it is left as it is"
        raise UserError(msg)
    return found


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = _UNLIMITED
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), _null)
    return yaml


def _null(representer: Any, value: None) -> Any:
    del value
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _dumped(content: Any) -> str:
    stream = io.StringIO()
    _yaml().dump(content, stream)
    return stream.getvalue()


def _break_long(value: Any, column: int) -> None:
    """Write mappings in braces that end beyond the width line by line. column: where the lines of the value begin."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict) and _is_in_braces(item) and column + len(f"{key}: ") + _length(item) > WIDTH:
                item.fa.set_block_style()  # type: ignore[attr-defined]
            _break_long(item, column + 2)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict) and _is_in_braces(item) and column + 2 + _length(item) > WIDTH:
                item.fa.set_block_style()  # type: ignore[attr-defined]
            _break_long(item, column + 2)


def _is_in_braces(value: Any) -> bool:
    return bool(value) and hasattr(value, "fa") and value.fa.flow_style() is True


def _length(value: Any) -> int:
    return max(len(line) for line in _dumped(value).splitlines())


def format_file(path: Path) -> tuple[str, str]:
    """The text of a file, and the same formatted. Raises InputFileError for anything but YAML."""
    if path.suffix not in (".yaml", ".yml"):
        msg = f"{path}: only YAML is formatted; JSON has no comments to keep"
        raise InputFileError(msg)
    text = read_text(path)
    return text, formatted(text, str(path))


def _spaced(value: Any) -> Any:
    """The same with one blank between numbers and units."""
    if isinstance(value, dict):
        for key in list(value):
            value[key] = _spaced(value[key])
        return value
    if isinstance(value, list):
        for index, item in enumerate(value):
            value[index] = _spaced(item)
        return value
    if isinstance(value, ScalarString) and not isinstance(value, DoubleQuotedScalarString | SingleQuotedScalarString):
        return value  # folded and literal blocks
    if isinstance(value, str):
        return _one_form(value)
    return value


def _one_form(text: str) -> str:
    match = _TIGHT.fullmatch(text.strip())
    if match is not None and as_number(text) is not None:
        return f"{match[1]} {match[2]}"
    return text


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    number = as_number(value) if isinstance(value, str) else None
    return number if number is not None else value
