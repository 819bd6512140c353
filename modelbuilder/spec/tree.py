"""YAML and JSON files as trees in which every value remembers its place.

Only plain data is read: mappings, sequences and scalars of the YAML 1.2 core schema. Tags, merge keys, duplicate keys,
NaN and infinities are refused, and size, depth and aliases are limited, so that an untrusted file can neither run
code nor exhaust the machine.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from modelbuilder.errors import InputFileError, Problem, SpecError

MAX_BYTES = 2_000_000
MAX_DEPTH = 32
MAX_VALUES = 100_000
MAX_NUMBER_LENGTH = 64
MAX_KEY_LENGTH = 80
MAX_PROBLEMS = 100

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONG_TAG = re.compile(r"![^\s]{1000}")
_NO_TAGS = "tags are not allowed, write plain values"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

type_names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


@dataclass(frozen=True, order=True)
class Place:
    """A place in a file, counted from 1; line 0 stands for something that has no line, such as `--set`."""

    file: str
    line: int
    column: int

    def problem(self, path: str, message: str) -> Problem:
        return Problem(file=self.file, line=self.line, column=self.column, path=path, message=message)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Scalar:
    value: str | int | float | bool | None
    place: Place


@dataclass(frozen=True)
class Sequence:
    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True)
class Mapping:
    """`entries` maps each key to the place of the key and the value."""

    entries: dict[str, tuple[Place, Node]]
    place: Place

    def get(self, key: str) -> Node | None:
        entry = self.entries.get(key)
        return entry[1] if entry else None

    def with_entry(self, key: str, place: Place, node: Node) -> Mapping:
        return Mapping({**self.entries, key: (place, node)}, self.place)


Node = Scalar | Sequence | Mapping


def plain(node: Node) -> Any:
    """The tree as dicts, lists and scalars."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, (_, value) in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return node.value


def tree_of(value: Any, place: Place) -> Node:
    """The reverse of `plain`, with one place for everything."""
    if isinstance(value, dict):
        return Mapping({str(key): (place, tree_of(item, place)) for key, item in value.items()}, place)
    if isinstance(value, list | tuple):
        return Sequence(tuple(tree_of(item, place) for item in value), place)
    return Scalar(value, place)


def child(node: Node, step: str | int) -> Node | None:
    """What lies one step below: a key of a mapping or an index of a sequence; None where there is nothing."""
    if isinstance(node, Mapping):
        return node.get(str(step))
    if isinstance(node, Sequence) and isinstance(step, int) and 0 <= step < len(node.items):
        return node.items[step]
    return None


def walk(node: Node, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Node]]:
    """Every node below and including `node`, with its path, in the order of the file."""
    yield path, node
    if isinstance(node, Mapping):
        for key, (_, value) in node.entries.items():
            yield from walk(value, (*path, key))
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from walk(item, (*path, index))


def path_text(path: tuple[str | int, ...]) -> str:
    """`('table', 'value', 3)` as `table.value[3]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read_text(path: Path) -> str:
    """The text of a file of at most `MAX_BYTES` bytes.

    Raises InputFileError if it is missing, unreadable, too large, or not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        msg = f"{path}: no such file"
        raise InputFileError(msg) from None
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise InputFileError(msg) from None
    if len(raw) > MAX_BYTES:
        msg = f"{path}: larger than {MAX_BYTES / 1e6:g} MB; move tables into CSV files and refer to them"
        raise InputFileError(msg)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{path}: not a UTF-8 text file (byte {error.start})"
        raise InputFileError(msg) from None


@dataclass(frozen=True)
class Parsed:
    """A file as a tree, with the problems that leave a tree to go on with (the values refused are null)."""

    root: Mapping
    problems: tuple[Problem, ...]


def load_tree(path: Path) -> Parsed:
    """The mapping in a YAML or JSON file.

    Raises InputFileError if the file cannot be read, SpecError if there is no tree to go on with.
    """
    return parse_tree(read_text(path), str(path), is_json=path.suffix.lower() == ".json")


def parse_tree(text: str, file: str, *, is_json: bool = False) -> Parsed:
    """The mapping in a YAML or JSON text; `file` is the name for messages. Raises SpecError."""
    if is_json:
        _check_json_syntax(text, file)
        text = text.replace("\t", " ")  # outside strings a tab is a blank, inside JSON forbids it: columns stay right
    reader = _Reader(text, file)
    root = reader.read()
    if not isinstance(root, Mapping):
        what = "an empty file" if root is None else type_names.get(type(plain(root)), "null")
        place = root.place if root else Place(file, 1, 1)
        raise SpecError((place.problem("", f"found {what}; a spec is a mapping of keys to values"),))
    return Parsed(root, tuple(reader.problems))


def parse_scalar(text: str, place: Place) -> Node:
    """A value given as text, as on the command line; YAML flow style (`[1, 2]`, `{a: b}`) is understood."""
    reader = _Reader(text, place.file, fixed_place=place)
    node = reader.read()
    if reader.problems:
        raise SpecError(tuple(reader.problems))
    return node if node is not None else Scalar(None, place)


def _check_json_syntax(text: str, file: str) -> None:
    def refuse_constant(name: str) -> None:
        pass  # NaN and Infinity get their place and message from the YAML reader below

    try:
        # numbers too: Python would refuse those of more than 4300 digits with an error of its own
        json.loads(text, parse_constant=refuse_constant, parse_int=str, parse_float=str)
    except json.JSONDecodeError as error:
        place = Place(file, error.lineno, error.colno)
        raise SpecError((place.problem("", f"not valid JSON: {error.msg}"),)) from None
    except RecursionError:
        raise SpecError((Place(file, 1, 1).problem("", f"nested deeper than {MAX_DEPTH} levels"),)) from None


def _tag_text(event: Any) -> str:
    """A tag as it is written: `!!float`, `!x`."""
    return str(event.ctag).replace("tag:yaml.org,2002:", "!!", 1)


def _yaml_fault(error: MarkedYAMLError) -> str:
    """What ruamel found, and where what it was reading began."""
    problem = str(error.problem or "").strip()
    if "'\\t' that cannot start any token" in problem:
        return "found a tab; indent with blanks"
    context = str(error.context or "").strip()
    if context and error.context_mark and error.problem_mark and error.context_mark.line < error.problem_mark.line:
        context += f" that begins on line {error.context_mark.line + 1}"
    return ", ".join(part for part in (context, problem) if part)


class _Reader:
    """Builds the tree from the event stream of the YAML parser, and collects what it refuses."""

    def __init__(self, text: str, file: str, fixed_place: Place | None = None) -> None:
        self.file = file
        self.fixed_place = fixed_place
        self.problems: list[Problem] = []
        self.anchors: dict[str, tuple[Node, int, int]] = {}  # node, number of values in it, depth below it
        self.count = 0
        self.deepest = 0
        self.text = text

    def read(self) -> Node | None:
        start = self.fixed_place or Place(self.file, 1, 1)
        if found := _LONG_TAG.search(self.text):  # the scanner needs a time that grows with the square of the length
            line = self.text.count("\n", 0, found.start()) + 1
            place = self.fixed_place or Place(self.file, line, 1)
            raise SpecError((place.problem("", "found a tag of more than 1000 characters; tags are not allowed"),))
        self.events = self._parsed_events(start)
        return self._document()

    def _parsed_events(self, start: Place) -> Iterator[Any]:
        """The events of the YAML parser, whose faults become SpecError."""
        try:
            yield from YAML(typ="safe", pure=True).parse(self.text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._place(mark) if mark else start
            raise self._abort(place, (), f"not valid YAML: {_yaml_fault(error)}") from None
        except ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            column = error.position - self.text.rfind("\n", 0, error.position)
            place = self.fixed_place or Place(self.file, line, column)
            code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or " ")
            msg = f"found the character U+{code:04X}, which a text file does not have"
            raise self._abort(place, (), msg) from None
        except Exception as error:  # noqa: BLE001  its scanner also meets what it did not think of
            fault = str(error).split("\n")[0] or type(error).__name__
            raise self._abort(start, (), f"not valid YAML; its parser failed with: {fault}") from None

    def _document(self) -> Node | None:
        root: Node | None = None
        for event in self.events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                if root is not None:
                    raise SpecError(
                        (self._place(event.start_mark).problem("", "found a second document; a file holds one"),)
                    )
                root = self._node(next(self.events), (), 1)
        return root

    def _place(self, mark: Any) -> Place:
        return self.fixed_place or Place(self.file, mark.line + 1, mark.column + 1)

    def _refuse(self, place: Place, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(place.problem(path_text(path), message))
        if len(self.problems) >= MAX_PROBLEMS:
            raise self._abort(place, (), f"gave up after {MAX_PROBLEMS} problems")

    def _abort(self, place: Place, path: tuple[str | int, ...], message: str) -> SpecError:
        return SpecError((*self.problems, place.problem(path_text(path), message)))

    def _grow(self, number: int, place: Place, path: tuple[str | int, ...]) -> None:
        self.count += number
        if self.count > MAX_VALUES:
            msg = f"more than {MAX_VALUES} values, aliases expanded; move tables into CSV files and refer to them"
            raise self._abort(place, path, msg)

    def _check_depth(self, depth: int, place: Place, path: tuple[str | int, ...]) -> None:
        self.deepest = max(self.deepest, depth)
        if depth > MAX_DEPTH:
            raise self._abort(place, (), f"nested deeper than {MAX_DEPTH} levels")

    def _node(self, event: Any, path: tuple[str | int, ...], depth: int) -> Node:
        place = self._place(event.start_mark)
        self._check_depth(depth, place, path)
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event, place, path, depth)
        if event.ctag is not None and str(event.ctag):
            self._refuse(place, path, f"found the tag {_tag_text(event)}; {_NO_TAGS}")
        before, deepest = self.count, self.deepest
        self.deepest = depth
        self._grow(1, place, path)
        node: Node
        if kind == "MappingStartEvent":
            node = self._mapping(place, path, depth)
        elif kind == "SequenceStartEvent":
            node = self._sequence(place, path, depth)
        else:
            node = Scalar(self._scalar_value(event, place, path), place)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.count - before, self.deepest - depth)
        self.deepest = max(self.deepest, deepest)
        return node

    def _alias(self, event: Any, place: Place, path: tuple[str | int, ...], depth: int) -> Node:
        if event.anchor not in self.anchors:
            raise self._abort(place, path, f"the alias *{event.anchor} stands before its anchor, or within it")
        node, size, below = self.anchors[event.anchor]
        self._grow(size, place, path)
        self._check_depth(depth + below, place, path)
        return node

    def _mapping(self, place: Place, path: tuple[str | int, ...], depth: int) -> Mapping:
        entries: dict[str, tuple[Place, Node]] = {}
        for event in self.events:
            kind = type(event).__name__
            if kind == "MappingEndEvent":
                break
            key_place = self._place(event.start_mark)
            if kind != "ScalarEvent":
                raise self._abort(key_place, path, "found a list or a mapping as a key; a key is a word")
            key = self._text(event.value, key_place, path)
            if event.ctag is not None and str(event.ctag):
                self._refuse(key_place, path, f"found the tag {_tag_text(event)}; {_NO_TAGS}")
            if len(key) > MAX_KEY_LENGTH:
                raise self._abort(key_place, path, f"found a key of {len(key)} characters; at most {MAX_KEY_LENGTH}")
            value = self._node(next(self.events), (*path, key), depth + 1)
            if key == "<<":
                self._refuse(key_place, path, "found the merge key <<; use `extends:` for a variant of a spec")
            elif key in entries:
                first = entries[key][0]
                self._refuse(key_place, (*path, key), f"the key stands twice; it was first given on line {first.line}")
            else:
                entries[key] = (key_place, value)
        return Mapping(entries, place)

    def _sequence(self, place: Place, path: tuple[str | int, ...], depth: int) -> Sequence:
        items: list[Node] = []
        for event in self.events:
            if type(event).__name__ == "SequenceEndEvent":
                break
            items.append(self._node(event, (*path, len(items)), depth + 1))
        return Sequence(tuple(items), place)

    def _text(self, value: object, place: Place, path: tuple[str | int, ...]) -> str:
        """Text without surrogates: JSON escapes characters beyond U+FFFF as a pair of them, which YAML leaves as two."""
        text = str(value)
        if not any("\ud800" <= character <= "\udfff" for character in text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._refuse(place, path, "found half of a surrogate pair (\\ud800 to \\udfff), which is not a character")
            return ""

    def _scalar_value(self, event: Any, place: Place, path: tuple[str | int, ...]) -> str | int | float | bool | None:
        text = self._text(event.value, place, path)
        if event.style is not None:
            return text
        if text in _NULL:
            return None
        if text in _BOOLEAN:
            return _BOOLEAN[text]
        if _NOT_FINITE.fullmatch(text) or text in {"NaN", "Infinity", "-Infinity"}:
            self._refuse(place, path, f"found {text}; a number must be finite")
            return None
        if _FLOAT.fullmatch(text):
            if len(text) > MAX_NUMBER_LENGTH:
                self._refuse(place, path, f"found a number of {len(text)} characters; at most {MAX_NUMBER_LENGTH}")
                return None
            value = int(text) if _INTEGER.fullmatch(text) else float(text)
            if not math.isfinite(value):
                self._refuse(place, path, f"found {text}; a number must be finite")
                return None
            return value
        return text
