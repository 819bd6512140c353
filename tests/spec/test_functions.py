"""Functions of the mass against values by hand, and the grammar of conditions."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from modelbuilder.spec.conditions import Condition
from modelbuilder.spec.functions import Efficiency, Function, PositiveEnergyOfMass, RelativeSizeOfMass
from modelbuilder.spec.load import load_search


def efficiency(form: object) -> Function:
    return TypeAdapter[Function](Efficiency).validate_python(form)


def energy(form: object) -> Function:
    return TypeAdapter[Function](PositiveEnergyOfMass).validate_python(form)


def table(interpolation: str, *, outside: str = "error") -> Function:
    lists = {"m_a": ["1 GeV", "2000 MeV", "4 GeV", "8 GeV"], "value": [0.1, "40 %", 0.1, 0.8]}
    return efficiency({"table": lists, "interpolation": interpolation, "outside": outside})


def at(function: Function, mass: float) -> float:
    return function.at({"m_a": mass})


@pytest.mark.parametrize(
    ("interpolation", "mass", "value"),
    [
        ("linear", 1.0, 0.1),
        ("linear", 1.5, 0.25),
        ("linear", 2.0, 0.4),
        ("linear", 3.5, 0.175),
        ("linear", 8.0, 0.8),
        ("logarithmic", 1.5, 0.2),  # sqrt(0.1 * 0.4)
        ("logarithmic", 3.0, 0.2),
        ("logarithmic", 6.0, 0.1 * math.sqrt(8.0)),
        ("step", 1.0, 0.1),
        ("step", 1.999, 0.1),
        ("step", 2.0, 0.4),
        ("step", 3.999, 0.4),
        ("step", 8.0, 0.8),
        # Fritsch-Carlson: zero slope at the extremes 2 and 4; between them 3 t^2 - 2 t^3 = 5/32 at t = 1/4
        ("monotone-cubic", 2.0, 0.4),
        ("monotone-cubic", 3.0, 0.25),
        ("monotone-cubic", 2.5, 0.4 - 0.3 * 5.0 / 32.0),
    ],
)
def test_interpolation(interpolation: str, mass: float, value: float) -> None:
    """Reference (by hand): catches one interpolation taken for another, and a step that jumps at the wrong end."""
    assert at(table(interpolation), mass) == pytest.approx(value, rel=1e-12)


@given(st.floats(2.0, 4.0))
@settings(deadline=None, derandomize=True)
def test_monotone_cubic_does_not_overshoot(mass: float) -> None:
    """Invariant: catches a spline that swings beyond the table, where an efficiency could exceed one."""
    assert 0.1 - 1e-12 <= at(table("monotone-cubic"), mass) <= 0.4 + 1e-12


@pytest.mark.parametrize("interpolation", ["linear", "logarithmic", "step", "monotone-cubic"])
def test_outside_of_the_table(interpolation: str) -> None:
    """Catches an extrapolation that nobody asked for."""
    with pytest.raises(
        ValueError, match=r"^m_a = 0\.9 GeV lies outside of the table \(1 to 8 GeV\); add points, or say "
    ):
        at(table(interpolation), 0.9)
    nearest = table(interpolation, outside="nearest")
    assert (at(nearest, 0.5), at(nearest, 10.0)) == pytest.approx((0.1, 0.8))


def test_constant() -> None:
    """Catches a constant that depends on how it is written, and a source that is lost."""
    assert at(efficiency("85 %"), 3.0) == at(efficiency(0.85), 7.0) == at(efficiency({"value": 0.85}), 1.0) == 0.85
    assert efficiency({"value": 0.85, "source": "assumption"}).source == "assumption"
    assert efficiency(0.85).variables == frozenset()


def test_polynomial() -> None:
    """Reference (by hand): catches reversed coefficients, and a unit that is not applied."""
    function = energy({"polynomial": [1, 2, 0.5], "of": "m_a", "unit": "MeV"})
    assert at(function, 2.0) == pytest.approx(0.007, rel=1e-14)  # (1 + 4 + 2) MeV
    assert function.variables == {"m_a"}


def test_pieces() -> None:
    """Catches a piece that holds on the wrong side of its edge, a hole, and an overlap."""
    form = {"pieces": [{"where": "m_a <= 4 GeV", "value": "8 %"}, {"where": "5 GeV > m_a > 4 GeV", "value": "5.5 %"}]}
    function = efficiency(form)
    assert (at(function, 4.0), at(function, 4.0001)) == (0.08, 0.055)
    with pytest.raises(ValueError, match=r"^none of the pieces holds at m_a = 5 GeV; exactly one must$"):
        at(function, 5.0)
    form["pieces"].append({"where": "m_a > 4.5 GeV", "value": "1 %"})
    with pytest.raises(ValueError, match=r"^2 of the pieces hold at m_a = 4\.6 GeV; exactly one must$"):
        at(efficiency(form), 4.6)


def test_csv_column(specs: Path) -> None:
    """Reference (the file, by eye): catches a wrong column, a wrong unit, a shifted row."""
    channels = load_search(specs).spec.channels
    assert at(channels["diphoton"].resolution, 0.2) == pytest.approx(0.0096)
    assert at(channels["diphoton"].resolution, 0.25) == pytest.approx(0.5 * (0.0096 + 0.0099))
    assert at(channels["recoil"].resolution, 0.3) == pytest.approx(2.672)
    assert at(channels["diphoton"].resolution, 0.01) == pytest.approx(0.0095)  # outside: nearest


def test_csv_file_with_comments_and_quotes(specs: Path) -> None:
    """Catches comments that are read as rows, blanks that become part of a name, and quoted cells."""
    Path("specs/t.csv").write_text('# c\n\n "m" , s\n1,"2"\n# c\n 3 ,4\n', encoding="utf-8")
    form = "{csv: specs/t.csv, columns: {m_a: m, value: s}, units: {m_a: GeV, value: MeV}, outside: nearest}"
    search = load_search(specs, overrides=[f"channels.diphoton.resolution={form}"])
    assert at(search.spec.channels["diphoton"].resolution, 2.0) == pytest.approx(0.003)


@pytest.mark.parametrize(
    ("form", "at_mass"),
    [
        ({"polynomial": [0.5, 0.1], "of": "m_a"}, 6.0),
        ({"polynomial": [0.5, -0.1], "of": "m_a"}, 6.0),
        ({"polynomial": [1e300, 1e300], "of": "m_a"}, 1e300),
    ],
)
def test_values_are_checked_where_they_are_used(form: object, at_mass: float) -> None:
    """Catches an efficiency above one, below zero or infinite that only comes about at some mass."""
    with pytest.raises(ValueError, match=r"^found .* at m_a = .*; it must be"):
        at(efficiency(form), at_mass)


@pytest.mark.parametrize("form", [1.2, "120 %", {"value": -0.1}, True, None, [], {"value": "1 GeV"}, {"value": True}])
def test_values_are_checked_where_they_are_known(form: object) -> None:
    """Catches a constant that is refused only when the simulation has begun."""
    with pytest.raises(ValidationError):
        efficiency(form)


def test_relative_size_may_exceed_one() -> None:
    """Catches a bound on efficiencies that is applied to uncertainties too."""
    assert TypeAdapter[Function](RelativeSizeOfMass).validate_python("150 %").at({}) == 1.5


# --- conditions


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("m_a < 6.85 GeV", [6.8499], [6.85, 7.0]),
        ("m_a <= 6.85 GeV", [6.85], [6.8501]),
        ("6.85 GeV > m_a", [6.8], [6.85]),
        ("m_a >= 500 MeV", [0.5], [0.4999]),
        ("0.2 GeV <= m_a < 0.5 GeV", [0.2, 0.4999], [0.1999, 0.5]),
        ("0.5 GeV > m_a > 0.2 GeV", [0.3], [0.2, 0.5]),
        ("m_a > 1 GeV and m_a < 2 GeV", [1.5], [1.0, 2.0]),
        ("m_a>1GeV and m_a<=2GeV and m_a<1.5GeV", [1.2], [1.5]),
    ],
)
def test_condition(text: str, inside: list[float], outside: list[float]) -> None:
    """Reference (by hand): catches an edge on the wrong side, and a comparison read from the wrong end."""
    condition = Condition.parse(text)
    assert str(condition) == text
    assert condition.variables == {"m_a"}
    assert [condition.holds({"m_a": mass}) for mass in inside + outside] == [True] * len(inside) + [False] * len(
        outside
    )


@pytest.mark.parametrize(
    "text",
    [
        "m_a", "m_a < ", "< 5 GeV", "m_a = 5 GeV", "m_a == 5 GeV", "m_a != 5 GeV", "m_a < 5", "m_a < 5 cm", "m_a - m_b < 5 GeV",
        "1 GeV < 2 GeV", "1 GeV < 2 GeV < 3 GeV", "m_a < 5 GeV and", "not m_a < 5 GeV",
        "1 GeV < m_a < 2 GeV < m_a", "m_a << 5 GeV", "__import__('os') < 5 GeV", "m_a < (5 GeV)", "", "a" * 300 + "< 1 GeV",
        5, None, ["m_a < 5 GeV"], "m_a < nan GeV", "m a < 5 GeV", "m_a < 5 GeV,", "and",
    ],
)  # fmt: skip
def test_condition_refused(text: object) -> None:
    """Catches a condition that is taken for something else than it says, and any code."""
    with pytest.raises(PydanticCustomError) as caught:
        Condition.parse(text)
    assert caught.value.message().startswith("found ")
    assert len(caught.value.message()) < 300
