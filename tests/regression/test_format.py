"""One form of a spec: nothing that it says changes, comments stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelbuilder.errors import InputFileError, SpecError
from modelbuilder.spec.format import format_file, formatted
from modelbuilder.spec.load import digest_of
from modelbuilder.spec.tree import parse_tree, plain

SPECS = sorted((Path(__file__).parents[2] / "specs").rglob("*.yaml"))

UGLY = """\
# head
a:   5.5%     # beside
long: {first: "a text that is long enough to reach the end of the line together with the others", second: 12, third: 3 GeV}


list:
- 1GeV
-   {x: 1,   y: null}
"""
PRETTY = """\
# head
a: 5.5 %      # beside
long:
  first: "a text that is long enough to reach the end of the line together with the others"
  second: 12
  third: 3 GeV

list:
  - 1 GeV
  - {x: 1, y: null}
"""


def test_one_form() -> None:
    """Hand-made: catches comments that are lost, units that stick to their numbers, braces beyond the line."""
    assert formatted(UGLY, "x") == PRETTY


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_our_specs_say_the_same_and_formatting_twice_changes_nothing(path: Path) -> None:
    """Invariant: catches a value that changes, and a form that is not one."""
    text, found = format_file(path)
    assert formatted(found, str(path)) == found
    before, after = (plain(parse_tree(t, "x").root) for t in (text, found))
    assert digest_of(before) == digest_of(after)
    assert text.count("#") == found.count("#")


def test_what_is_not_formatted() -> None:
    """Reads the messages: JSON, and a text that cannot be read, which would be lost."""
    with pytest.raises(InputFileError, match="only YAML is formatted"):
        format_file(Path("x.json"))
    with pytest.raises(SpecError, match="x:2:"):
        formatted("a: 1\na: 2\n", "x")
