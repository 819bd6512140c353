"""Validation of a tree by a pydantic model, with messages in the words of the spec and the place of each fault."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from modelbuilder.errors import Problem
from modelbuilder.spec.base import shown
from modelbuilder.spec.functions import FORM_KEYS, Form, FunctionIn
from modelbuilder.spec.tree import Mapping, Node, Place, child, path_text, plain

Model = TypeVar("Model", bound=BaseModel)
_QUOTED = re.compile(r"'([^']+)'")


def validate(model: type[Model], tree: Mapping) -> tuple[Model | None, list[Problem]]:
    """The model made from the tree, or None and all problems."""
    try:
        return model.model_validate(plain(tree)), []
    except ValidationError as error:
        faults = error.errors(include_url=False)
    # What calls itself something else is not judged by the rules of this model.
    foreign = [d["loc"][:-1] for d in faults if d["type"] == "literal_error" and d["loc"][-1] == "schema"]
    faults = [d for d in faults if d["loc"][-1:] == ("schema",) or not any(_starts(d["loc"], at) for at in foreign)]
    misspelt = {
        (*details["loc"][:-1], close)
        for details in faults
        if details["type"] == "extra_forbidden" and (close := _closest(model, tree, details)) is not None
    }
    return None, [_problem(model, tree, d) for d in faults if d["type"] != "missing" or d["loc"] not in misspelt]


def _starts(location: tuple[str | int, ...], beginning: tuple[str | int, ...]) -> bool:
    return location[: len(beginning)] == beginning


def nearest(found: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where something is close, otherwise `; known: a, b, c`; empty if nothing is known."""
    names = sorted(known)
    close = _close(found, names)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def _closest(model: type[BaseModel], tree: Mapping, details: Any) -> str | None:
    """The known key that an unknown one is closest to."""
    path, _, _ = _locate(tree, details["loc"])
    close = _close(str(path[-1]), sorted(_keys(model, path[:-1], details["loc"])))
    return close[0] if close else None


def _problem(model: type[BaseModel], tree: Mapping, details: Any) -> Problem:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing" and isinstance(details["loc"][-1], str):
        path, _, place = _locate(tree, details["loc"][:-1])
        key = details["loc"][-1]
        return place.problem(path_text((*path, key)), f"missing{_meaning(model, path, key)}")
    at: tuple[str | int, ...] = ()
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        at = (context["discriminator"].strip("'"),)
    elif kind == "refused":
        at = context["at"]
    start, _, _ = _locate(tree, details["loc"])
    path, node, place = _locate(tree, (*start, *at))
    if kind == "union_tag_not_found":
        expected = _either(_tags_at(model, start, str(at[-1])))
        return place.problem(path_text((*start, *at)), f"missing; expected {expected}")
    if kind == "refused":  # the path may name a key that is not there; the place is then that of what lies above it
        return place.problem(path_text((*start, *at)), context["reason"])
    if kind == "extra_forbidden":
        found = str(path[-1])
        known = _keys(model, path[:-1], details["loc"])
        return place.problem(path_text(path), f"unknown key {found!r}{nearest(found, known)}")
    return place.problem(path_text(path), _message(kind, context, details, node))


_BOUNDS = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le"), "less_than": ("below", "lt")}


def _message(kind: str, context: dict[str, Any], details: Any, node: Node) -> str:
    value = plain(node)
    found = f"found {shown(value)}"
    if kind in ("literal_error", "union_tag_invalid"):
        expected = context.get("expected") or context["expected_tags"]
        return f"{found}{_choice(value, _QUOTED.findall(expected))}"
    if kind in ("too_short", "too_long", "missing"):  # missing: the second of a pair
        number = context.get("min_length", context.get("max_length", "2"))
        word = {"too_short": "at least ", "too_long": "at most ", "missing": ""}[kind]
        return f"found {len(value)} item{'' if len(value) == 1 else 's'}; expected {word}{number}"
    if kind in _BOUNDS:
        word, limit = _BOUNDS[kind]
        return f"{found}; it must be {word} {context[limit]}"
    if kind == "function_form":
        close = [key for name in value for key in _close(str(name), FORM_KEYS)] if isinstance(value, dict) else []
        return f"{found}; {details['msg']}" + (f"; did you mean {close[0]!r}?" if close else "")
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{found}; expected a mapping of keys to values"
    if kind in ("list_type", "tuple_type"):
        return f"{found}; expected a list"
    if kind == "string_type":
        return f"{found}; expected text"
    if kind in ("int_type", "int_parsing", "int_from_float"):
        return f"{found}; expected a whole number"
    if kind in ("float_type", "float_parsing"):
        return f"{found}; expected a number"
    message = str(details["msg"])
    return f"{found}; {message[0].lower()}{message[1:]}"


def _choice(found: object, known: list[str]) -> str:
    close = _close(str(found), known)
    hint = f"; did you mean {close[0]!r}?" if close and len(known) > 1 else ""
    return f"; expected {_either(known)}{hint}"


def _either(known: Iterable[str]) -> str:
    *others, last = (repr(name) for name in known)
    return f"{', '.join(others)} or {last}" if others else last


def _close(found: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(found[:80], list(known), n=1, cutoff=0.6)


def _locate(tree: Mapping, location: tuple[str | int, ...]) -> tuple[tuple[str | int, ...], Node, Place]:
    """The deepest node on the way to a pydantic location, which also holds names of union members, and its path.

    The place is that of the key above the value, or of the value itself in a list or in another file than the key.
    """
    node: Node = tree
    place = tree.place
    path: tuple[str | int, ...] = ()
    for step in location:
        below = child(node, step)
        if below is None:
            continue
        if isinstance(node, Mapping):
            place = node.entries[str(step)][0]
            if below.place.file != place.file:
                place = below.place
        else:
            place = below.place
        node, path = below, (*path, step)
    return path, node, place


def _keys(model: type[BaseModel], path: tuple[str | int, ...], location: tuple[str | int, ...]) -> set[str]:
    """The keys that are allowed at a path, of the union members that the location names where it names some."""
    models = _models_at(model, path)
    tags = set(location) - set(path)
    return {key for found in {m for m in models if _tags(m) & tags} or models for key in _aliases(found)}


def _tags_at(model: type[BaseModel], path: tuple[str | int, ...], key: str) -> list[str]:
    """What a key that says of which kind a part is may be, for the parts that may lie at a path."""
    fields = [found.model_fields[key] for found in _models_at(model, path) if key in found.model_fields]
    return sorted({str(value) for field in fields for value in get_args(field.annotation)})


def _tags(model: type[BaseModel]) -> set[str]:
    """The values of the fields that say of which kind a model is."""
    annotations = [field.annotation for field in model.model_fields.values()]
    return {str(value) for found in annotations if get_origin(found) is Literal for value in get_args(found)}


def _meaning(model: type[BaseModel], path: tuple[str | int, ...], key: str) -> str:
    for found in sorted(_models_at(model, path), key=lambda candidate: candidate.__name__):
        field = _aliases(found).get(key)
        if field is not None:
            described = found.model_fields[field].description
            part = found.model_fields[field].annotation
            if described is None and isinstance(part, type) and issubclass(part, BaseModel) and part.__doc__:
                described = f"{part.__doc__[0].lower()}{part.__doc__[1:]}".splitlines()[0].rstrip(".")
            if described:
                return f"; expected {described}"
    return ""


def _aliases(model: type[BaseModel]) -> dict[str, str]:
    return {field.alias or name: name for name, field in model.model_fields.items()}


def _models_at(model: type[BaseModel], path: tuple[str | int, ...]) -> set[type[BaseModel]]:
    """The models that may describe what lies at a path."""
    models = {model}
    for step in path:
        if isinstance(step, int):
            continue
        below: set[type[BaseModel]] = set()
        for candidate in models:
            name = _aliases(candidate).get(step)
            if name is not None:
                below |= _models_in(candidate.model_fields[name])
        models = below or models
    return models


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if hasattr(annotation, "annotation"):  # a pydantic field: its metadata may name a function
        found = _models_in(annotation.annotation)
        if any(isinstance(item, FunctionIn) for item in annotation.metadata):
            found |= _models_in(Form)
        return found
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    found = set()
    for argument in get_args(annotation):
        found |= _models_in(Form) if isinstance(argument, FunctionIn) else _models_in(argument)
    return found
