"""What is refused of searches for decays of particles made in known number, and of lifetimes."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelbuilder.errors import SpecError
from modelbuilder.spec.conditions import Condition
from modelbuilder.spec.grid import expand_grid, spread
from modelbuilder.spec.load import load_search

SPEC = Path(__file__).parents[2] / "specs" / "belle2" / "b_to_kaon_scalar_mumu.yaml"
ALONE = "signal.lifetime.shape_at=null"


def problems(*overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_search(SPEC, overrides=overrides)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (
            ["signal.produced.of=B0"],
            "signal.produced.of: found 'B0'; name the particle of the process whose decay the limit is on; known: B+, S, Y(4S)",
        ),
        (
            ["signal.branching_fractions={'S -> e+ e-': {value: 1, source: assumption}}"],
            ("signal.branching_fractions.S -> e+ e-: found 'S -> e+ e-', which is no decay of the process: Y(4S) -> B+ B-, "
            "B+ -> K+ S, S -> mu+ mu-"),
        ),
        (
            ["signal.ratio_to=combinatorial"],
            "signal.ratio_to: found both produced and ratio_to; the limit is on one of them",
        ),
        (
            ["signal.produced=null", "signal.ratio_to=combinatoria"],
            "signal.ratio_to: found 'combinatoria', which is not a background; did you mean 'combinatorial'?",
        ),
        (
            ["signal.produced=null", "signal.ratio_to=combinatorial"],
            "signal.ratio_to: 'combinatorial' needs a `process` and a `cross_section` that the signal is compared with",
        ),
        (
            ["signal.produced=null"],
            "systematics.n_bb: acts on nothing: signal.produced is missing; remove it",
        ),
        (
            ["signal.produced=null"],
            ("interpretations.sin_theta.model: dark-scalar needs a limit on a branching fraction; that of this search is on a "
            "cross section"),
        ),
        (
            ["systematics.n_bb.also=[combinatorial]"],
            "systematics.n_bb.also[0]: acts on nothing: the rate of 'combinatorial' is free; remove it from the list",
        ),
        (
            ["signal.lifetime.of=K+"],
            "signal.lifetime.of: found 'K+', which is no hypothesis that decays in the process; known: S",
        ),
        (
            ["signal.lifetime.values=['1 cm', '1 mm']"],
            "signal.lifetime.values: found values that do not rise; write them in rising order",
        ),
        (
            ["signal.lifetime.shape_at=2 cm"],
            ("signal.lifetime.shape_at: found a c tau that is none of `values`; take one of them, so that a row says what was "
            "fitted"),
        ),
        (
            ["signal.lifetime.values=['0 cm', '1 cm']"],
            ("signal.lifetime.values[0]: a prompt decay has no weights that turn it into another; with shape_at every c tau is "
            "above 0"),
        ),
        (
            ["signal.lifetimes={S: 1 cm}"],
            "the lifetime of S is given, but it is scanned",
        ),
        (
            ["grid_where=m_S < 1 GeV or m_S > 2 GeV"],
            "grid_where: found 'm_S < 1 GeV or m_S > 2 GeV'; the grid is one piece, without `or`: leave out ranges with gaps",
        ),
    ],
)  # fmt: skip
def test_messages(changes: list[str], found: str) -> None:
    """Golden: what was found, and what would be right."""
    assert any(found in message for message in problems(*changes)), "\n".join(problems(*changes))


def test_each_lifetime_is_a_point_where_it_has_a_fit() -> None:
    """Names, order and numbers by hand; all lifetimes of a mass stay together when some points are chosen."""
    values = "signal.lifetime.values=['0 cm', '1 mm', '10 um', '2.5 cm']".replace("'10 um', ", "")
    search = load_search(SPEC, overrides=[ALONE, values])
    first = search.points[:3]
    assert [point.ctau for point in first] == [0.0, 0.1, 2.5]
    assert [point.name for point in first] == [f"m_S_0p2127_ctau_{text}" for text in ("0", "0p1", "2p5")]
    assert [point.index for point in search.points] == list(range(len(search.points)))
    assert first[1].text == "m_S = 0.2127 GeV, c tau = 0.1 cm"
    chosen = spread(search.points, 4)
    assert len(chosen) == 12
    assert len({point.mass for point in chosen}) == 4
    assert chosen[:3] == first
    assert chosen[-1] == search.points[-1]
    whole = load_search(SPEC).points
    assert expand_grid(search.spec.grid, search.spec.channels) == tuple(whole)


def test_conditions_joined_by_or() -> None:
    """By hand: `and` binds closer. Catches the other way round."""
    condition = Condition.parse("m_S < 1 GeV and m_S > 0.5 GeV or 3 GeV <= m_S <= 4 GeV")
    assert [condition.holds({"m_S": mass}) for mass in (0.4, 0.7, 1.0, 3.0, 4.0, 4.1)] == [
        False, True, False, True, True, False,
    ]  # fmt: skip
    assert condition.variables == {"m_S"}
