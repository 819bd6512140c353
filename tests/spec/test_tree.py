"""Reading YAML and JSON: only plain data, only SpecError, in bounded time; and what is written reads back the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelbuilder.errors import SpecError
from modelbuilder.spec import tree
from modelbuilder.spec.emit import to_yaml
from modelbuilder.spec.tree import (
    MAX_KEY_LENGTH,
    Mapping,
    Place,
    Scalar,
    Sequence,
    parse_scalar,
    parse_tree,
    plain,
    tree_of,
    walk,
)

SPECS = Path(__file__).parents[2] / "specs"
SOURCES = sorted(path.read_text(encoding="utf-8") for path in SPECS.rglob("*.yaml"))
NOWHERE = Place("x", 1, 1)


def read(text: str, *, is_json: bool = False) -> object:
    parsed = parse_tree(text, "x", is_json=is_json)
    assert parsed.problems == ()
    return plain(parsed.root)


def refusal(text: str, *, is_json: bool = False) -> list[str]:
    """All problems, be there a tree to go on with or not."""
    try:
        return [str(problem) for problem in parse_tree(text, "x", is_json=is_json).problems]
    except SpecError as error:
        return [str(problem) for problem in error.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("off", "off"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("0o17", "0o17"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2018-01-01", "2018-01-01"),
        ("017", 17),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("+7", 7),
        ("1.", 1.0),
        ("'5'", "5"),
        ('"true"', "true"),
        ("nan", "nan"),
        ("1 GeV", "1 GeV"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    """Reference (YAML 1.2.2, core schema; we read no octal and no hexadecimal): catches YAML 1.1's Norway problem."""
    found = read(f"a: {text}")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize("is_json", [False, True], ids=["yaml", "json"])
@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400, "1" * 5000, "0." + "1" * 5000])
def test_huge_numbers_are_refused(number: str, is_json: bool) -> None:
    """Catches numbers that overflow, and those of thousands of digits, for which Python has an error of its own."""
    (line,) = refusal(f'{{"a": {number}}}', is_json=is_json)
    assert line.startswith("x:1:7: a: found ")


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}'])
def test_json_without_nan(text: str) -> None:
    """Catches the numbers that Python's JSON reads and no standard allows."""
    (line,) = refusal(text, is_json=True)
    assert line.endswith("; a number must be finite")


def test_json_with_tabs_and_escapes() -> None:
    """Catches JSON that YAML alone would refuse or misread: tabs, escaped slashes, pairs of surrogates."""
    text = '{\n\t"a":\t"x\\t\\/\\ud83d\\ude00",\n\t"b": [1,\t2]}'
    assert read(text, is_json=True) == json.loads(text) == {"a": "x\t/\U0001f600", "b": [1, 2]}


def test_places_in_json_with_tabs() -> None:
    """Catches a column that is off because tabs were replaced."""
    root = parse_tree('{\n\t"a":\t5}', "x.json", is_json=True).root
    assert root.get("a") == Scalar(5, Place("x.json", 2, 7))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1,}', "x:1:9: not valid JSON"),
        ('{a: 1}', "x:1:2: not valid JSON"),
        ('{"a": "\\ud83d"}', "x:1:7: a: found half of a surrogate pair"),
        ("[" * 100_000, "x:1:1: nested deeper than 32 levels"),
        ("", "x:1:1: not valid JSON"),
    ],
)  # fmt: skip
def test_bad_json(text: str, expected: str) -> None:
    """Catches YAML that passes for JSON, half characters that no file can hold, and a stack that runs over."""
    assert refusal(text, is_json=True)[0].startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!binary aGk=",
        "!x a: 1",
        "!!set {a, b}",
        "? !!str a\n: 1",
        "a: !!python/object/apply:os.system [ls]",
        "a: !" + "x" * 5000 + " 1",
        "a: !<tag:x> 1",
    ],
)
def test_tags_are_refused_everywhere(text: str) -> None:
    """Catches a tag, which may name code to run, on a value, a key or the whole file."""
    assert any("tags are not allowed" in line for line in refusal(text))


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "!" * 1_000_000,
        "a: !<" + "a" * 1_000_000 + "> 1",
        "{" + "a," * 100_000,
        "".join(f"a{i}: 1\n" for i in range(10_001)),
        "- " * 500_000,
        "[" * 500_000,
        "{a: " * 500_000,
        "a: &a [" + "*a, " * 10_000,
        "%" * 100_000,
        "a: |\n" + " x\n" * 100_000,
        '"' + "\\x41" * 100_000,
    ],
    ids=["tag", "verbatim", "duplicates", "keys", "dashes", "lists", "maps", "self", "percent", "lines", "escapes"],
)
def test_hostile_files_end_soon(
    text: str, counted_calls: Callable[[Callable[[], object]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a file whose reading takes more than its length: the largest of them once took minutes."""
    monkeypatch.setattr(tree, "MAX_VALUES", 10_000)
    found: list[str] = []
    calls = counted_calls(lambda: found.extend(refusal(text)))
    assert calls < 100 * len(text)
    assert len(found) <= 101


def test_aliases_count_with_their_contents() -> None:
    """Catches the billion laughs, and depth that grows through aliases."""
    deep = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 40))
    assert refusal(deep)[-1].endswith("nested deeper than 32 levels")
    wide = "a0: &a0 [1, 1, 1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 20))
    assert "more than 100000 values, aliases expanded" in refusal(wide)[-1]
    assert read("a: &x {b: 1}\nc: *x\n") == {"a": {"b": 1}, "c": {"b": 1}}


# What YAML gives a meaning to, more often than chance would have it.
PIECES = st.sampled_from(
    ["a", ": ", "- ", "\n", "  ", "[", "]", "{", "}", ",", "&a ", "*a", "!", "!!str ", "#", "|\n", ">-\n", "'", '"', "\\", "%", "%YAML 1.1\n", "---\n", "...\n", "? ", "<<: ", "\t", "~", "1e9", ".nan", "\x00", "\ufeff", "\x85", "@", "`", "\\U00110000", "\\ud800", "\u2028", "null", "é", "=", "\r", "%TAG ! x\n", "0x", "GeV"]
)  # fmt: skip
TEXTS = st.text(max_size=60) | st.lists(PIECES, max_size=25).map("".join)


def only_returns_or_raises_spec_error(text: str, *, is_json: bool = False) -> None:
    try:
        parsed = parse_tree(text, "x", is_json=is_json)
    except SpecError as refused:
        found = refused.problems
        assert found
        assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in found)
        return
    assert len(list(walk(parsed.root))) >= 1
    json.dumps(plain(parsed.root), allow_nan=False, ensure_ascii=False).encode()


@given(TEXTS)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Invariant: catches any exception but SpecError, whatever the file."""
    only_returns_or_raises_spec_error(text)
    only_returns_or_raises_spec_error(f"a: {text}")
    only_returns_or_raises_spec_error(text, is_json=True)


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_mutated_specs_are_read_or_refused(data: st.DataObject) -> None:
    """Invariant: catches any exception but SpecError for a spec with a slip of the hand in it."""
    source = data.draw(st.sampled_from(SOURCES))
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(source)))
        end = begin + data.draw(st.sampled_from([0, 0, 1, 2, 20]))
        source = source[:begin] + data.draw(PIECES | st.text(max_size=3)) + source[end:]
    only_returns_or_raises_spec_error(source)


@given(TEXTS)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_override_is_read_or_refused(text: str) -> None:
    """Invariant: catches any exception but SpecError for a value on the command line, and a place that is not it."""
    try:
        node = parse_scalar(text, Place("--set", 0, 0))
    except SpecError as refused:
        places = {(problem.file, problem.line) for problem in refused.problems}
        assert places == {("--set", 0)}
    else:
        assert all(below.place == Place("--set", 0, 0) for _, below in walk(node))


AWKWARD = ["", " ", "null", "True", "~", "1", "1e5", "-", "- a", "a: b", "a #b", "#", "'", '"', "\\", "a\nb", "\ttab"]
AWKWARD += ["on", "0.5 GeV", "1 2", "5 %", "% 5", "{}", "[a]", "*a", "&a", "!a", "\x7f", "\x85", "\u2028", "\ufeff"]
AWKWARD += [
    "\U0001f600",
    ".nan",
    "NaN",
    "e+ e- -> gamma a, a -> gamma gamma",
    "a ",
    "a:",
    "?",
    "---",
    "<<",
    "é",
    "\r\n",
]
WORDS = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
KEYS = WORDS.filter(lambda text: text != "<<" and len(text) <= MAX_KEY_LENGTH)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**50), 10**50)
SCALARS = WORDS | NUMBERS | st.booleans() | st.none()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
@settings(max_examples=250, deadline=None, derandomize=True)
def test_what_is_written_reads_back_the_same(values: dict[str, object]) -> None:
    """Invariant: catches text that a resolved spec would turn into something else, with and without origins."""
    tree = tree_of(values, Place("some file\n: # 'x", 3, 1))
    assert isinstance(tree, Mapping)
    for origin in (False, True):
        found = read(to_yaml(tree, origin=origin))
        assert found == values
        assert repr(found) == repr(values)  # 1 and 1.0 and True are equal, and not the same


@pytest.mark.parametrize("source", SOURCES)
def test_our_specs_read_back_the_same(source: str) -> None:
    """Invariant: the same for the trees that matter."""
    root = parse_tree(source, "x").root
    assert read(to_yaml(root)) == plain(root) == read(to_yaml(root, origin=True))


def test_how_a_resolved_spec_looks() -> None:
    """Golden: catches quotes where nobody needs them, and origins that stand elsewhere than behind their value."""
    tree = parse_tree("a:\n  b: 445 pb^-1\n  c: 'yes: no'\nd:\n- e: [1, 2.5]\n  f: {}\n- x\n", "s.yaml").root
    assert to_yaml(tree) == 'a:\n  b: 445 pb^-1\n  c: "yes: no"\nd:\n  - e: [1, 2.5]\n    f: {}\n  - x\n'
    assert to_yaml(tree, origin=True).splitlines()[1:4] == [
        "  b: 445 pb^-1  # s.yaml:2",
        '  c: "yes: no"  # s.yaml:3',
        "d:",
    ]


def test_trees_made_in_python() -> None:
    """Catches tuples and numbers as keys, which only Python has, in a tree that is then written."""
    tree = tree_of({1: ("a", [])}, NOWHERE)
    assert tree == Mapping({"1": (NOWHERE, Sequence((Scalar("a", NOWHERE), Sequence((), NOWHERE)), NOWHERE))}, NOWHERE)
