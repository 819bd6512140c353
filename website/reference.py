"""The reference of the spec language, as Markdown made from the JSON Schemas: every key, type, default and meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

PAGES = {"experiment": "Experiment", "search": "SearchSpec", "combination": "CombinationSpec"}
"""Page and schema file by name, with the object that a file of the kind is. A part stands on the first page that has it."""


def reference(schemas: Mapping[str, Schema]) -> dict[str, str]:
    """The text of each page, by its name. schemas: by the same names, as in `schemas/NAME.schema.json`."""
    homes: dict[str, str] = {}
    for page, root in PAGES.items():
        for name in parts_of(schemas[page], root):
            homes.setdefault(name, page)
    return {
        page: "\n".join(
            line
            for name in parts_of(schemas[page], root)
            if homes[name] == page
            for line in _part(name, schemas[page]["definitions"][name], page, homes)
        )
        for page, root in PAGES.items()
    }


def parts_of(schema: Schema, root: str) -> list[str]:
    """The names of the objects that a file is made of: the file itself, then what it refers to, and so on."""
    found = [root]
    for name in found:
        found += dict.fromkeys(other for other in _references(schema["definitions"][name]) if other not in found)
    return found


def anchor(name: str) -> str:
    """Of the heading of a part."""
    return name.lower()


def type_text(schema: Schema, page: str, homes: Mapping[str, str]) -> str:
    """What may stand there, in words; parts are links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name.endswith("Changes"):
            return "such a mapping with `extends` and what differs"
        where = "" if homes[name] == page else f"{homes[name]}.md"
        return f"[{name}]({where}#{anchor(name)})"
    if "else" in schema:
        return f"{type_text(schema['else'], page, homes)}, whole or a variant with `extends`"
    if "const" in schema:
        return _code(schema["const"])
    if "enum" in schema:
        return ", ".join(_code(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_text(one, page, homes) for one in _choices(schema)))
    match schema.get("type"):
        case "array":
            items = schema.get("items", {})
            if isinstance(items, list):  # a tuple
                return f"list of {len(items)}: {', '.join(type_text(item, page, homes) for item in items)}"
            return f"list of {type_text(items, page, homes) or 'anything'}{_length(schema)}"
        case "object" if isinstance(schema.get("additionalProperties"), Mapping):
            return f"mapping of names to {type_text(schema['additionalProperties'], page, homes)}"
        case "string":
            return str(schema.get("description") or "text")
        case "integer" | "number" as kind:
            return f"{'whole number' if kind == 'integer' else 'number'}{_range(schema)}"
        case "boolean":
            return "`true` or `false`"
        case "null":
            return "nothing"
        case _:
            return "number, or text with its unit"


def _part(name: str, definition: Schema, page: str, homes: Mapping[str, str]) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    if definition.get("description"):
        yield _line(definition["description"])
        yield ""
    if "properties" not in definition:
        yield f"{type_text(definition, page, homes)}"
        yield ""
        return
    required = set(definition.get("required", ()))
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for key, schema in definition["properties"].items():
        default = "required" if key in required else _default(schema)
        alone = next(iter(_choices(schema)), schema) if len(_choices(schema)) == 1 else schema
        meaning = str(schema.get("description") or (alone.get("type") == "string" and alone.get("description")) or "")
        words = meaning and alone.get("type") == "string" and "enum" not in alone and "const" not in alone
        kind = "text" if words else type_text(schema, page, homes)
        examples = schema.get("examples") or next(
            (one["examples"] for one in _choices(schema) if "examples" in one), []
        )
        shown = [_code(example) for example in examples if str(example) not in f"{kind} {meaning}"]
        if shown:
            meaning = f"{meaning}{'; ' if meaning else ''}such as {', '.join(shown)}"
        yield f"| `{key}` | {_cell(kind)} | {_cell(default)} | {_cell(meaning)} |"
    yield ""


def _choices(schema: Schema) -> list[Schema]:
    """The members of a union, nested ones too, without null."""
    found: list[Schema] = []
    for one in schema.get("anyOf", ()):
        found += _choices(one) if "anyOf" in one else [] if one.get("type") == "null" else [one]
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if "$ref" in value:
            name = str(value["$ref"]).rpartition("/")[2]
            if not name.endswith(("Variant", "Changes")):
                yield name
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _default(schema: Schema) -> str:
    default = schema.get("default")
    return "" if default is None else _code(default)


def _length(schema: Schema) -> str:
    low, high = schema.get("minItems"), schema.get("maxItems")
    if low is not None and low == high:
        return f", {low} of them"
    return "" if not low or low == 1 else f", at least {low}"


def _range(schema: Schema) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    found = [f"{word} {schema[key]:g}" for key, word in words.items() if key in schema]
    return f" {' and '.join(found)}" if found else ""


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")
