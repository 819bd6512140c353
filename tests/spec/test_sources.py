"""Every number of our specs says where it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbuilder.spec.base import SOURCE_LABELS, source_label
from modelbuilder.spec.load import resolve
from modelbuilder.spec.quantities import NUMBER
from modelbuilder.spec.tree import Mapping, Node, Scalar, Sequence, load_tree, parse_tree, path_text, walk

SPECS = sorted((Path(__file__).parents[2] / "specs").rglob("*.yaml"))

# Numbers that describe our computation, not nature or somebody's analysis.
EXCEPTIONS = {
    r"seed": "of our random numbers",
    r"data\.seed": "of our pseudo-data",
    r"signal\.events": "size of our simulation",
    r"backgrounds\.\w+\.events": "size of our simulation",
    r"backgrounds\.\w+\.smooth": "what is made of our simulation",
    r"grid_where": "what is possible, for the most part; the end of the grid otherwise",
    r"signal\.nodes\.where": "where our simulation is",
    r"notes": "text, which may compare numbers",
    r"tests\[\d+\]\..*": "what the search expects of itself; `why` says where that comes from",
    r"(signal|backgrounds\.\w+)\.laws\.[^.]+\.(min_energy|max_cos)": "reach of our simulation",
}
# A condition is part of the number that it stands beside, and has its source.
QUANTITY = re.compile(rf"\s*{NUMBER}\s*[A-Za-zµ%°][^:]{{0,30}}|.*[<>]=?\s*{NUMBER}.*")


def numbers_without_source(node: Node, path: tuple[str | int, ...] = (), *, has_source: bool = False) -> Iterator[str]:
    """Paths of numbers and quantities that have no `source` beside them or above, the top level apart."""
    if isinstance(node, Mapping):
        has_source = has_source or (bool(path) and "source" in node.entries)
        for key, (_, value) in node.entries.items():
            yield from numbers_without_source(value, (*path, key), has_source=has_source)
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from numbers_without_source(item, (*path, index), has_source=has_source)
    elif not has_source and is_number(node):
        yield path_text(path)


def is_number(node: Scalar) -> bool:
    if isinstance(node.value, str):
        return QUANTITY.fullmatch(node.value) is not None
    return isinstance(node.value, int | float) and not isinstance(node.value, bool)


def test_numbers_without_source_are_found() -> None:
    """Invariant: catches a search that finds nothing, which would make the test below pass for nothing."""
    text = "source: x\na: 1\nb: {c: 5 %, d: [0.2 GeV, text]}\ne: {source: y, f: {g: 5}}\nh: m_a < 5 GeV\ni: e+ e- -> gamma pi0\n"
    root = parse_tree(text, "x").root
    assert list(numbers_without_source(root)) == ["a", "b.c", "b.d[0]", "h"]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_every_number_has_a_source(path: Path) -> None:
    """Catches a number that a reader would take for a published one, because nobody says that it is not."""
    missing = numbers_without_source(load_tree(path).root)
    assert [found for found in missing if not any(re.fullmatch(name, found) for name in EXCEPTIONS)] == []


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_sources_are_more_than_a_label(path: Path) -> None:
    """Catches `read` or `recalled` without saying where; an assumption may stand for itself."""
    sources = [str(n.value) for p, n in walk(resolve(path)[0]) if p and p[-1] == "source" and isinstance(n, Scalar)]
    assert sources
    assert {source_label(source) for source in sources} <= set(SOURCE_LABELS)
    assert [source for source in sources if source in SOURCE_LABELS and source != "assumption"] == []
