"""A tree as YAML text, optionally with the place that each value came from."""

from __future__ import annotations

import json
import re

from modelbuilder.spec.tree import Mapping, Node, Scalar, Sequence

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_ .+*/()<>=^%-]*[A-Za-z0-9%)]|[A-Za-z]|[0-9][0-9.]* [A-Za-z%^0-9-]+")
_KEYWORDS = re.compile(r"(null|true|false|nan|inf|infinity)", re.IGNORECASE)


def to_yaml(tree: Mapping, *, origin: bool = False) -> str:
    """YAML text that reads back as the same tree; with `origin`, each value is followed by its `# file:line`."""
    lines: list[str] = [] if tree.entries else ["{}"]
    _emit_mapping(tree, 0, lines, origin)
    return "\n".join(lines) + "\n"


def _emit_mapping(mapping: Mapping, indent: int, lines: list[str], origin: bool) -> None:
    for key, (_, value) in mapping.entries.items():
        _emit_entry(f"{' ' * indent}{_text(key)}:", value, indent + 2, lines, origin)


def _emit_entry(head: str, value: Node, indent: int, lines: list[str], origin: bool) -> None:
    if isinstance(value, Mapping) and value.entries:
        lines.append(head)
        _emit_mapping(value, indent, lines, origin)
        return
    inline = _inline(value)
    if isinstance(value, Sequence) and value.items and inline is None:
        lines.append(head)
        for item in value.items:
            _emit_item(item, indent, lines, origin)
        return
    lines.append(f"{head} {inline}" + (f"  # {_comment(value)}" if origin else ""))


def _emit_item(item: Node, indent: int, lines: list[str], origin: bool) -> None:
    """One item of a block list; the first line of a mapping shares the line of the dash."""
    below: list[str] = []
    if isinstance(item, Mapping) and item.entries:
        _emit_mapping(item, indent + 2, below, origin)
    else:
        _emit_entry(" " * (indent + 1), item, indent + 2, below, origin)
    below[0] = f"{' ' * indent}- {below[0].lstrip()}"
    lines.extend(below)


def _inline(value: Node) -> str | None:
    """A value on one line, or None if it needs several."""
    if isinstance(value, Scalar):
        return _text(value.value)
    if isinstance(value, Mapping):
        return None if value.entries else "{}"
    if all(isinstance(item, Scalar) for item in value.items):
        return "[" + ", ".join(_text(item.value) for item in value.items if isinstance(item, Scalar)) + "]"
    return None


def _text(value: str | float | bool | None) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _KEYWORDS.fullmatch(value):
        return value
    # Beside what cannot be printed, YAML has line breaks that JSON does not know.
    return json.dumps(value, ensure_ascii=isinstance(value, str) and not value.isprintable())


def _comment(value: Node) -> str:
    """The place of a value, on one line whatever the name of the file or the text of an override."""
    return "".join(character if character.isprintable() else " " for character in str(value.place))
