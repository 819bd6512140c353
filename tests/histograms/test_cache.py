"""Kept simulations: nothing that matters is left out of their names, and what cannot be read is made anew."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.errors import UserError
from modelbuilder.histograms.cache import SimulationCache, digest_of_inputs, open_cache
from modelbuilder.kinematics.sample import ChainSample
from modelbuilder.scan.points import points_of
from modelbuilder.spec.load import load_spec

SPECS = Path(__file__).parents[2] / "specs"
VERSIONS = {"numpy": "2"}


def test_all_that_a_sample_is_made_from_is_in_its_inputs() -> None:
    """Catches an argument of a sample that is added and does not enter the name of what is kept."""
    found = points_of(load_spec(SPECS / "belle" / "leptophilic_scalar_ee_displaced.yaml"))
    simulation = found.simulations[""]
    sample = simulation.chain_sample("signal", simulation.spec.selection, simulation.search.points[0])
    assert list(sample.inputs) == [name for name in inspect.signature(ChainSample).parameters if name != "self"]


@dataclass(frozen=True)
class Pair:
    one: float
    two: object = None


def test_inputs_that_differ_have_other_digests() -> None:
    """Catches inputs that run into one another, arrays that are cut short, and the last bit of a number."""
    inputs = [
        None, True, 1, 1.0, np.nextafter(1.0, 2.0), "1", "", (), ((),), ("a", "b"), ("ab",), (("a",), "b"),
        {"a": 1}, {"a": {"b": 1}}, {"a": (), "b": 1}, Pair(1.0), Pair(1.0, Pair(1.0)), Pair(2.0),
        np.arange(6.0), np.arange(6.0).reshape(2, 3), np.arange(6), np.where(np.arange(6) == 3, 3.5, np.arange(6.0)),
        float("inf"), 0.0, -0.0,
    ]  # fmt: skip
    digests = [digest_of_inputs(one) for one in inputs]
    assert len(set(digests)) == len(inputs)
    assert digests == [digest_of_inputs(one) for one in inputs]
    large = np.zeros(100_000)
    other = large.copy()
    other[50_000] = 1e-300
    assert digest_of_inputs(large) != digest_of_inputs(other)


def test_what_is_no_input_is_refused() -> None:
    """Catches an object that would enter by its address, or not at all."""
    for value in (object(), {1.0, 2.0}, (1, len)):
        with pytest.raises(TypeError, match="not an input of a simulation"):
            digest_of_inputs(value)


NODES = "signal.nodes.masses={m_Ap: [6 GeV, 7 GeV], m_hp: [1 GeV, 2 GeV]}"
GRID = (
    "grid.m_Ap.segments=[{values: [6.5 GeV], source: assumption}]",
    "grid.m_hp.segments=[{values: [1.2 GeV, 1.5 GeV], source: assumption}]",
)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("belle2/alp_gammagamma_2018", ()),  # the engine of three photons
        ("belle2/zprime_invisible_2020", ()),  # a table of efficiencies, a second observable, weights in fb
        ("belle2/dark_higgsstrahlung_2019", (NODES, *GRID)),  # the plane
        ("belle/leptophilic_scalar_ee_displaced", ()),  # lifetimes and vertices
        ("combined/mumu_resonance", ()),  # a combination
    ],
)
def test_specs_of_ours_have_digests(name: str, overrides: tuple[str, ...]) -> None:
    """Catches a kind of input that nobody has thought of, and a name that is another one in the next process.

    Another source of a number, or another title, is no other input.
    """
    loaded = load_spec(SPECS / f"{name}.yaml", overrides=overrides)
    first = {k: digest_of_inputs(v) for k, v in points_of(loaded).inputs(loaded.points[0]).items()}
    assert first
    again = load_spec(SPECS / f"{name}.yaml", overrides=(*overrides, "title=another"))
    assert first == {k: digest_of_inputs(v) for k, v in points_of(again).inputs(again.points[0]).items()}
    if "signal" in first and not overrides:  # the nodes of a plane are those of all its points
        last = points_of(loaded).inputs(loaded.points[-1])
        assert first["signal"] != digest_of_inputs(last["signal"])


def test_what_is_kept_is_read_bit_for_bit(tmp_path: Path) -> None:
    """Catches numbers that lose bits on the way, and results of other versions."""
    cache = open_cache(tmp_path / "kept", VERSIONS)
    arrays = {"values": np.array([0.1, -0.0, np.nan, np.inf, 5e-324]), "scalar": np.array(1.0 / 3.0)}
    assert cache.recall("inputs") is None
    cache.keep("inputs", arrays)
    found = open_cache(tmp_path / "kept", VERSIONS).recall("inputs")
    assert found is not None
    assert {name: array.tobytes() for name, array in found.items()} == {n: a.tobytes() for n, a in arrays.items()}
    assert cache.recall("other inputs") is None
    assert open_cache(tmp_path / "kept", {"numpy": "3"}).recall("inputs") is None


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    """Catches numbers of a file that a disk or a person has changed: cut short, one byte in the middle, another format."""
    cache = open_cache(tmp_path, VERSIONS)
    made = {"values": np.linspace(0.0, 1.0, 1000)}
    cache.keep("inputs", made)
    (path,) = tmp_path.glob("??/*.npz")
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damaged in (
        whole[:middle],
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        b"",
        b"not an archive",
    ):
        path.write_bytes(damaged)
        found = cache.arrays("inputs", lambda: made)
        assert found["values"].tobytes() == made["values"].tobytes()
        assert path.read_bytes() == whole


def test_folders_that_are_no_cache_are_refused(tmp_path: Path) -> None:
    """Reads the messages: a folder of somebody's files, and a file."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"holds thesis\.tex but no CACHEDIR\.TAG; it is not a cache"):
        open_cache(tmp_path, VERSIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match=r"thesis\.tex: cannot be used as a cache: File exists"):
        open_cache(tmp_path / "thesis.tex", VERSIONS)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """Reads the message where a result cannot be written: the folder of the cache has gone."""
    cache = SimulationCache(tmp_path / "gone", VERSIONS)
    with pytest.raises(UserError, match=r"cannot be written: No such file or directory; name another cache, or none"):
        cache.keep("inputs", {"values": np.zeros(1)})
