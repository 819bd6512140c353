"""Any value in any place of our search: checked, or refused in words, and never a traceback."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelbuilder.spec.check_file import check_file
from modelbuilder.spec.emit import to_yaml
from modelbuilder.spec.tree import Mapping, Place, load_tree, plain, tree_of

ALP = Path(__file__).parent / "data/specs/belle2/alp_gammagamma_2018.yaml"
SEARCH = plain(load_tree(ALP).root)
COLUMNS = {"m_a": "m_GeV", "value": "m_GeV"}
VALUES: list[Any] = [
    None, True, 0, -1, 5, 0.5, 1e300, 1e-300, 10**30, "", "x", [], {}, [1], [[]], {"a": 1}, {"csv": "x"},
    "5 GeV", "-5 GeV", "1e308 GeV", "1e-9 GeV", "5 %", "500 %", "0.5 resolution", "1e-12 resolution",
    "m_a < 5 GeV", "m_b > 1 GeV", "signal", "three_photon", "simulated", "../experiments/belle2.yaml", ["1 GeV", "2 GeV"],
    {"polynomial": [1, 2], "of": "m_a"}, {"polynomial": [1], "of": "m_b"}, {"value": "5 MeV", "source": "assumption"},
    {"table": {"m_a": ["1 GeV", "2 GeV"], "value": [1, 2]}}, {"pieces": [{"where": "m_b < 1 GeV", "value": 1}]},
    {"csv": "data/alp_gammagamma_resolution.csv", "columns": COLUMNS, "units": {"m_a": "GeV", "value": ""}},
    {"csv": 5, "columns": 5, "units": {}}, {"kind": "rate"}, {"kind": "shape", "on": ["signal"]},
]  # fmt: skip


def paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from paths(below, (*path, key))


PATHS = list(paths(SEARCH))


def check(specs: Path, tree: dict[str, Any]) -> list[str]:
    """All problems of the changed search, after what holds for any list of them."""
    node = tree_of(tree, Place("x", 1, 1))
    assert isinstance(node, Mapping)
    specs.write_text(to_yaml(node), encoding="utf-8")
    found = [str(problem) for problem in check_file(specs).problems]
    assert len(set(found)) == len(found)
    assert all("\n" not in line and len(line) < 1500 for line in found)
    return found


@given(st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(VALUES)), min_size=1, max_size=3))
@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the file is written anew for every example
)
def test_any_value_anywhere(specs: Path, changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    """Invariant: catches any exception but ours for a search that is sound as YAML, however odd, and a check that hangs."""
    tree = copy.deepcopy(SEARCH)
    for path, value in changes:
        node = tree
        for step in path[:-1]:
            node = node[step] if isinstance(node, dict) and step in node else {}
        if isinstance(node, dict):
            node[path[-1]] = copy.deepcopy(value)
    check(specs, tree)


@pytest.mark.parametrize("column", [[], {"csv": "x"}, 5, None])
def test_columns_that_are_no_names(specs: Path, column: object) -> None:
    """Issue: a list in place of the name of a CSV column once was a traceback."""
    tree = copy.deepcopy(SEARCH)
    tree["channels"]["recoil"]["resolution"]["columns"]["m_a"] = column
    (line,) = check(specs, tree)
    assert "channels.recoil.resolution.columns" in line


@pytest.mark.parametrize("path", [path for path in PATHS if path[-1] == "source"], ids=str)
def test_every_source_is_required(specs: Path, path: tuple[str | int, ...]) -> None:
    """Catches a number whose source may be left out; functions in a part that has one itself may rely on that."""
    tree = copy.deepcopy(SEARCH)
    node = tree
    for step in path[:-1]:
        node = node[step]
    del node["source"]
    found = check(specs, tree)
    if path[0] == "channels" and len(path) == 4:
        assert found == []
    else:
        assert len(found) == 1
        assert ".source: missing; " in found[0]
