"""Numbers with units against numbers written by hand; what is refused, and how soon."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from modelbuilder.spec.quantities import (
    ANGLE,
    CROSS_SECTION,
    ENERGY,
    LENGTH,
    LUMINOSITY,
    NUMBER_OF,
    RESOLUTIONS,
    STEP,
    Dimension,
    Quantity,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("445 pb^-1", LUMINOSITY, 0.445),
        ("445 1/pb", LUMINOSITY, 0.445),
        ("50 ab^-1", LUMINOSITY, 50_000.0),
        ("0.5 nb^-1", LUMINOSITY, 5e-7),
        ("1e37 cm^-2", LUMINOSITY, 0.01),
        ("4.5 fb", CROSS_SECTION, 4.5),
        ("1.2 nb", CROSS_SECTION, 1.2e6),
        ("1e-39 cm^2", CROSS_SECTION, 1.0),
        ("83 mrad", ANGLE, 0.083),
        ("180 deg", ANGLE, math.pi),
        ("12.4deg", ANGLE, 0.21642082724729685),
        ("90 °", ANGLE, math.pi / 2),
        ("5.13 MeV", ENERGY, 0.00513),
        ("2.375 MeV", ENERGY, 0.002375),
        ("0.2 GeV", ENERGY, 0.2),
        ("1 TeV", ENERGY, 1000.0),
        ("-3e-3 GeV", ENERGY, -0.003),
        ("1.25 m", LENGTH, 125.0),
        ("300 µm", LENGTH, 0.03),
        ("95 %", NUMBER_OF, 0.95),
        ("0.67 %", NUMBER_OF, 0.0067),
        ("5 permille", NUMBER_OF, 0.005),
        (0.85, NUMBER_OF, 0.85),
        (3, NUMBER_OF, 3.0),
        ("0.85", NUMBER_OF, 0.85),
        ("0.5 resolution", RESOLUTIONS, 0.5),
    ],
)
def test_conversion(text: object, dimension: Dimension, value: float) -> None:
    """Reference (by hand): catches a wrong power of ten, a unit taken for its inverse, and a loss of digits."""
    assert parse_quantity(text, dimension) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(("text", "value"), [("95 %", 0.95), ("5.5 %", 0.055), ("0.3 %", 0.003), ("99 %", 0.99)])
def test_percentages_are_exact(text: str, value: float) -> None:
    """Catches 95 % as 0.9500000000000001, which would show in every table."""
    assert parse_quantity(text, NUMBER_OF) == value


@pytest.mark.parametrize(
    ("value", "dimension", "reason"),
    [
        (445, LUMINOSITY, "found 445 without a unit; expected an integrated luminosity, such as '445 pb^-1'"),
        ("445", LUMINOSITY, "found '445' without a unit; expected an integrated luminosity, such as '445 pb^-1'"),
        ("445 pb", LUMINOSITY, "found '445 pb': 'pb' is not the unit of an integrated luminosity"),
        ("451/fb", LUMINOSITY, "found '451/fb'; expected an integrated luminosity"),
        ("1 fb", LUMINOSITY, "is not the unit of"),
        ("1 pb^-1", CROSS_SECTION, "found '1 pb^-1': 'pb^-1' is not the unit of a cross section"),
        ("1 kg", ENERGY, "'kg' is not the unit of an energy"),
        ("1 Gev", ENERGY, "the unit 'Gev' is not known; expected an energy, such as '0.2 GeV'"),
        ("1 deg", NUMBER_OF, "'deg' is not the unit of a number without unit"),
        ("5 dB", NUMBER_OF, "'dB' is not the unit of a number without unit"),
        ("0.5 GeV", RESOLUTIONS, "'GeV' is not the unit of a number of resolutions"),
        (
            0.5,
            STEP,
            "found 0.5 without a unit; expected an energy or a number of resolutions, such as '0.5 resolution'",
        ),
        ("1e308 ab^-1", LUMINOSITY, "a number must be finite"),
        ("1e999 GeV", ENERGY, "a number must be finite"),
        ("nan GeV", ENERGY, "found 'nan GeV'; expected an energy, such as '0.2 GeV'"),
        ("inf GeV", ENERGY, "found 'inf GeV'; expected an energy"),
        ("1,5 GeV", ENERGY, "found '1,5 GeV'; expected an energy"),
        ("0x10 GeV", ENERGY, "expected an energy"),
        ("1_0 GeV", ENERGY, "found '1_0 GeV'; expected an energy"),
        ("", ENERGY, "found ''; expected an energy"),
        (True, ENERGY, "found true; expected an energy"),
        (None, ENERGY, "found nothing; expected an energy"),
        ([1], ENERGY, "found a list; expected an energy"),
        ({"a": 1}, ENERGY, "found a mapping; expected an energy"),
    ],
)
def test_refusal(value: object, dimension: Dimension, reason: str) -> None:
    """Catches a number that is taken in a unit it was not meant in; `451/fb` once was 45 fb^-1."""
    with pytest.raises(ValueError, match=r"^found ") as caught:
        parse_quantity(value, dimension)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "unit",
    [
        "pb^9^9^9",
        "9**9**9",
        "GeV**9**9**9",
        "GeV^99999999",
        "GeV^-9^9^9",
        "__import__('os').system('ls')",
        "(lambda: 1)()",
        "GeV " * 10_000,
        "a" * 100_000,
        "GeV" + "*GeV" * 50,
        " " * 100_000 + "x",
        "1/" * 1000 + "GeV",
        "GeV if 1 else MeV",
        "GeV;1",
        "GeV\n",
        "½ GeV",
    ],
)
def test_malicious_units_are_refused_soon(unit: str, counted_calls: Callable[[Callable[[], object]], int]) -> None:
    """Catches a unit that is computed or run: `pb^9^9^9` once kept pint busy for ever."""

    def refused() -> None:
        with pytest.raises(ValueError, match=r"^found ") as caught:
            parse_quantity(f"1 {unit}x", ENERGY)
        assert len(str(caught.value)) < 400

    parse_quantity("1 GeV", ENERGY)  # pint itself begins with a lot of work
    assert counted_calls(refused) < 1000


@given(st.text(max_size=30) | st.from_regex(r"[0-9.e+-]{0,6} ?[A-Za-z%^*/ 0-9-]{0,12}", fullmatch=True))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_is_a_finite_number_or_refused(text: str) -> None:
    """Invariant: catches infinities, and exceptions of pint's own, which has a great many."""
    for dimension in (ENERGY, NUMBER_OF, LUMINOSITY):
        try:
            value = parse_quantity(text, dimension)
        except ValueError:
            continue
        assert math.isfinite(value)


@given(st.floats(1e-6, 1e6))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_units_agree_with_one_another(number: float) -> None:
    """Invariant: catches a unit whose factor is not that of its neighbours."""
    in_gev = parse_quantity(f"{number!r} GeV", ENERGY)
    assert parse_quantity(f"{number * 1e3!r} MeV", ENERGY) == pytest.approx(in_gev, rel=1e-13)
    assert parse_quantity(f"{number!r} fb^-1", LUMINOSITY) == pytest.approx(
        parse_quantity(f"{number!r} ab^-1", LUMINOSITY) / 1e3, rel=1e-13
    )


@pytest.mark.parametrize(
    ("quantity", "value", "reason"),
    [
        (Quantity(ENERGY, low=0.0), "-1 MeV", "found '-1 MeV'; it must be at least 0 GeV"),
        (Quantity(ENERGY, low=0.0, exclusive=True), "0 GeV", "found '0 GeV'; it must be above 0 GeV"),
        (Quantity(NUMBER_OF, low=0.0, high=1.0), "95", "found '95'; it must be at most 1 (100 %)"),
        (Quantity(ANGLE, high=3.0), "180 deg", "found '180 deg'; it must be at most 3 rad"),
    ],
)
def test_bounds(quantity: Quantity, value: str, reason: str) -> None:
    """Catches a bound that is not kept, or is reported in a unit that the reader did not write."""
    with pytest.raises(PydanticCustomError) as caught:
        quantity.parse(value)
    assert caught.value.message() == reason
