"""JSON Schemas of the spec files, draft-07 so that editors complete keys, generated from the models."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from modelbuilder.spec.combination import CombinationSpec
from modelbuilder.spec.experiment import Experiment
from modelbuilder.spec.search import SearchSpec

_DRAFT = "http://json-schema.org/draft-07/schema#"
_REFERENCE = {"type": "string", "description": "path of a file, relative to this one", "examples": ["../x.yaml"]}


def schemas() -> dict[str, dict[str, Any]]:
    """The schemas by file name. They describe specs as written: with references and `extends`, not resolved."""
    return {
        "search.schema.json": _schema(SearchSpec),
        "combination.schema.json": _schema(CombinationSpec),
        "experiment.schema.json": _schema(Experiment),
    }


def schema_text(schema: dict[str, Any]) -> str:
    """The text of a schema file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def differences(folder: Path) -> list[str]:
    """What in `folder` differs from the models, one sentence per file; empty if it is current."""
    found = []
    for name, schema in schemas().items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path}: missing")
        elif path.read_text(encoding="utf-8") != schema_text(schema):
            found.append(f"{path}: differs from the models; write it again with `modelbuilder schema -o {folder}`")
    return found


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """Either a complete file, or a variant with `extends`, in which nothing is required and null removes."""
    generated = _draft_07(model.model_json_schema())
    below = generated.pop("definitions", {})
    title = generated["title"]
    definitions = {title: generated, **below}
    files = [name for name in dict.fromkeys((title, SearchSpec.__name__)) if name in definitions]
    for properties in (definitions[name]["properties"] for name in files):
        if "experiment" in properties:
            properties["experiment"] = {"anyOf": [_REFERENCE, properties["experiment"]]}
        properties["$schema"] = {"type": "string", "description": "for editors; ignored"}
    variants = {f"{name}Variant": _variant(definition) for name, definition in definitions.items()}
    for name in files:
        extends = {**_REFERENCE, "description": "the spec that this one changes"}
        variants[f"{name}Variant"]["properties"]["extends"] = extends
        for properties in (definitions[name]["properties"], variants[f"{name}Variant"]["properties"]):
            if "experiment" in properties:
                properties["experiment"]["anyOf"].append({"$ref": f"#/definitions/{Experiment.__name__}Changes"})
    changes = {}
    if Experiment.__name__ in below:
        changes[f"{Experiment.__name__}Changes"] = _changes(below[Experiment.__name__])
    if "searches" in generated["properties"]:
        search = _complete_or_variant(SearchSpec.__name__)
        generated["properties"]["searches"]["additionalProperties"] = {"anyOf": [_REFERENCE, search]}
        variant, _ = variants[f"{title}Variant"]["properties"]["searches"]["anyOf"]
        variant["additionalProperties"] = _or_null({"anyOf": [_REFERENCE, search["then"]]})
    return {
        "$schema": _DRAFT,
        "title": title,
        "description": generated.get("description", ""),
        **_complete_or_variant(title),
        "definitions": {title: generated, **below, **variants, **changes},
    }


def _complete_or_variant(title: str) -> dict[str, Any]:
    return {
        "if": {"type": "object", "required": ["extends"]},
        "then": {"$ref": f"#/definitions/{title}Variant"},
        "else": {"$ref": f"#/definitions/{title}"},
    }


def _changes(definition: dict[str, Any]) -> dict[str, Any]:
    """Of a part that another file has: `extends` and what differs."""
    new = _variant(definition)
    new["properties"]["extends"] = _REFERENCE
    return {**new, "required": ["extends"]}


def _draft_07(value: Any) -> Any:
    """The same schema with the keywords of draft-07 in place of those of 2020-12."""
    if isinstance(value, list):
        return [_draft_07(item) for item in value]
    if not isinstance(value, dict):
        return value
    new = {}
    for key, item in value.items():
        if key == "$defs":
            new["definitions"] = _draft_07(item)
        elif key == "prefixItems":
            new["items"] = _draft_07(item)
            new["additionalItems"] = False
        elif key == "discriminator":
            continue
        elif key == "oneOf":  # the members differ in their keys, but an editor is helped more by all that may fit
            new["anyOf"] = _draft_07(item)
        elif key == "$ref":
            new["$ref"] = item.replace("#/$defs/", "#/definitions/")
        else:
            new[key] = _draft_07(item)
    return new


def _variant(definition: dict[str, Any]) -> dict[str, Any]:
    """A copy in which nothing is required, null is allowed for every key, and references lead to variants.

    For every key: a part that takes another form, a table for a value say, has a null for what it had before.
    """
    new: dict[str, Any] = _relaxed(copy.deepcopy(definition))
    new.pop("required", None)
    if new.get("additionalProperties") is False:
        new["additionalProperties"] = {"type": "null"}
    if "properties" in new:
        new.pop("anyOf", None)  # sets of keys, one of which is required
        new["properties"] = {key: _or_null(item) for key, item in new["properties"].items()}
    return new


def _relaxed(value: Any) -> Any:
    if isinstance(value, list):
        return [_relaxed(item) for item in value]
    if not isinstance(value, dict):
        return value
    new = {key: _relaxed(item) for key, item in value.items()}
    if "$ref" in new:
        new["$ref"] += "Variant"
    if isinstance(new.get("additionalProperties"), dict):
        new["additionalProperties"] = _or_null(new["additionalProperties"])
    for key in ("minProperties", "maxProperties"):
        new.pop(key, None)
    return new


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}
