"""Runs with a cache of simulations: the bytes are those of a run without, and only what has changed is simulated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelbuilder.scan.run import run_search
from modelbuilder.spec.load import LoadedSearch, load_search

from .conftest import SPEC, Tree

Tiny = Callable[..., LoadedSearch]
Files = Callable[[Path], Tree]
OTHER = "interpretations.other_per_gev={model: alp-photon}"


def names(folder: Path) -> set[str]:
    """Of what is kept."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.npz")}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Path:
    """A cache after one run of two points."""
    folder = tmp_path_factory.mktemp("cache")
    run_search(tiny(), folder / "run", points=2, jobs=1, cache=folder / "kept")
    return folder / "kept"


# Two points in two channels; four backgrounds in each, all with data, and three of them with a peak that is varied. Mean
# weights are kept for the three with a cross section, once for both channels; the fourth has weights in fb.
@pytest.mark.parametrize(
    ("changes", "simulated"),
    [
        (("title=another", "systematics.peaking_rate.size=60 %", OTHER, "statistics.confidence_level=90 %"), 0),
        (("signal.efficiency={value: 0.5, source: assumption}",), 0),
        (("luminosity.value=450 pb^-1",), 8),  # the data, which are thrown event by event
        (("data={kind: asimov}",), 0),
        (("systematics.mass_resolution.size=11 %",), 8),  # both signals, three peaks twice
        (("backgrounds.eta.events=60000",), 4),  # its templates and its data
        (("signal.events=6000",), 2),
    ],
    ids=lambda value: value[0].split("=")[0] if isinstance(value, tuple) else "",
)
def test_only_what_changed_is_simulated(
    changes: tuple[str, ...], simulated: int, filled: Path, tmp_path: Path, tiny: Tiny, files_of: Files
) -> None:
    """Second method: a run without a cache. Catches a template that is out of date, one that is made for nothing, and
    bits that get lost. What was simulated is counted by the files that have come to the cache.
    """
    before = names(filled)
    run_search(tiny(*changes), tmp_path / "cached", points=2, jobs=1, cache=filled)
    assert len(names(filled) - before) == simulated
    run_search(tiny(*changes), tmp_path / "scratch", points=2, jobs=1)
    found, expected = files_of(tmp_path / "cached"), files_of(tmp_path / "scratch")
    assert set(found) == set(expected)
    assert [name for name in found if found[name] != expected[name]] == []
    for name in names(filled) - before:
        (filled / name).unlink()


def test_two_processes_share_a_cache(filled: Path, tmp_path: Path, tiny: Tiny, files_of: Files) -> None:
    """Catches workers that do not know of the cache, or write it in another way."""
    before = names(filled)
    run_search(tiny(), tmp_path / "again", points=2, jobs=2, cache=filled)
    assert names(filled) == before
    assert not list(filled.rglob("*.tmp"))
    run_search(tiny(), tmp_path / "scratch", points=2, jobs=1)
    assert files_of(tmp_path / "again") == files_of(tmp_path / "scratch")


FLYING = SPEC.parents[2] / "tests" / "histograms" / "searches" / "b_to_k_scalar.yaml"


@pytest.mark.parametrize("shape", ["", ", shape_at: 0.5 cm"])
def test_lifetimes_are_kept(shape: str, tmp_path: Path, files_of: Files) -> None:
    """Second method: a run without a cache. Catches efficiencies at lifetimes that are read as those of others."""

    def search(values: str) -> LoadedSearch:
        lifetime = f"signal.lifetime={{of: S, values: {values}{shape}, source: assumption}}"
        few = ("signal.lifetimes=null", "signal.events=5000", "backgrounds.prompt.events=5000")
        return load_search(FLYING, overrides=(*few, lifetime))

    kept = tmp_path / "kept"
    run_search(search("[0.5 cm, 2 cm]"), tmp_path / "scratch", points=2, jobs=1)
    for name in ("first", "again"):
        before = names(kept) if kept.exists() else set()
        run_search(search("[0.5 cm, 2 cm]"), tmp_path / name, points=2, jobs=1, cache=kept)
        assert files_of(tmp_path / name) == files_of(tmp_path / "scratch")
        assert bool(names(kept) - before) == (name == "first")
    run_search(search("[0.5 cm, 3 cm]"), tmp_path / "others", points=2, jobs=1, cache=kept)
    run_search(search("[0.5 cm, 3 cm]"), tmp_path / "others without", points=2, jobs=1)
    assert files_of(tmp_path / "others") == files_of(tmp_path / "others without")
