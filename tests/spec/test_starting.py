"""Starting specs: each one is sound, and does what its first line says."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelbuilder.errors import UserError
from modelbuilder.spec.format import format_file
from modelbuilder.spec.load import load_search
from modelbuilder.spec.search import SIGNAL
from modelbuilder.spec.starting import archetypes, write_archetype

EXPERIMENT = Path(__file__).parents[2] / "specs" / "experiments" / "belle2.yaml"


@pytest.mark.parametrize("name", archetypes())
def test_a_starting_spec_is_sound(name: str, tmp_path: Path) -> None:
    """Catches a key or a value that the language no longer has, and a file that `modelbuilder fmt` would change."""
    spec, _ = write_archetype(name, tmp_path / "mine.yaml")
    search = load_search(spec)
    assert search.points
    assert search.spec.signal.process
    assert SIGNAL not in search.spec.backgrounds
    text, formatted = format_file(spec)
    assert text == formatted


def test_the_experiment_is_ours() -> None:
    """Catches a copy that lags behind the file of the detector; only the line for editors differs."""
    ours = EXPERIMENT.read_text(encoding="utf-8").split("\n", 1)[1]
    copy = Path(__file__).parents[2] / "modelbuilder" / "spec" / "archetypes" / "experiment.yaml"
    assert copy.read_text(encoding="utf-8") == ours


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Catches a spec, or an experiment, that is lost. Reads the messages."""
    spec = tmp_path / "mine.yaml"
    (tmp_path / "experiment.yaml").write_text("mine")
    assert write_archetype("peak", spec) == [spec]
    assert (tmp_path / "experiment.yaml").read_text() == "mine"
    with pytest.raises(UserError, match=r"mine\.yaml: is there already; give another name with -o"):
        write_archetype("peak", spec)
    with pytest.raises(UserError, match=r"found 'peek'; expected one of .*did you mean 'peak'\?"):
        write_archetype("peek", tmp_path / "other.yaml")
    with pytest.raises(UserError, match=r"give a name that ends in \.yaml"):
        write_archetype("peak", tmp_path / "other.json")
