"""Curves and bands beside a limit: read as they are written, drawn where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelbuilder.errors import SpecError
from modelbuilder.publish.figures import compared_curve, draw_comparisons
from modelbuilder.spec.load import load_search
from modelbuilder.theory.constants import MUON_MASS

SPEC = Path(__file__).parents[1] / "histograms" / "searches" / "counting.yaml"
INTERPRETED = "interpretations={gprime: {model: l-mu-l-tau, decay: invisible}}"


def comparisons(text: str) -> list[str]:
    return [INTERPRETED, f"comparisons={{gprime: [{text}]}}"]


def test_curves_are_what_was_written(tmp_path: Path) -> None:
    """Catches columns that are swapped, units that are lost (500 MeV is 0.5 GeV), and a file that is read otherwise."""
    in_place = "{title: t, table: {m_Zp: [500 MeV, 2 GeV], low: [1e-3, 2e-3], high: [3e-3, 4e-3]}, source: assumption}"
    (one,) = load_search(SPEC, overrides=comparisons(in_place)).spec.comparisons["gprime"]
    found = compared_curve(one, np.array([1.0, 2.0]))
    assert found.mass.tolist() == [0.5, 2.0]
    assert found.low.tolist() == [1e-3, 2e-3]
    assert found.high is not None
    assert found.high.tolist() == [3e-3, 4e-3]


def test_band_of_the_muon_moment() -> None:
    """Closed form: for a vector that is much lighter than the muon the loop is g^2/(8 pi^2). Catches a band of another
    difference than the one in the spec, or with the wrong number of standard deviations.
    """
    text = "{title: g-2, muon_moment: l-mu-l-tau, difference: 250e-11, error: 50e-11, sigma: 2, source: 'recalled: x'}"
    (one,) = load_search(SPEC, overrides=comparisons(text)).spec.comparisons["gprime"]
    light = 1e-5 * MUON_MASS
    found = compared_curve(one, np.array([light, 2.0 * light]))
    assert found.high is not None
    assert found.low == pytest.approx(np.sqrt(8.0 * np.pi**2 * 150e-11), rel=1e-3)
    assert found.high == pytest.approx(np.sqrt(8.0 * np.pi**2 * 350e-11), rel=1e-3)


def test_drawn_where_they_are() -> None:
    """Catches a curve that is drawn at other values, and limits of an axis that leave it out."""
    import matplotlib.pyplot as plt

    text = "{title: other, table: {m_Zp: [1 GeV, 2 GeV], value: [1e-3, 2e-3]}, source: assumption}"
    (one,) = load_search(SPEC, overrides=comparisons(text)).spec.comparisons["gprime"]
    figure, axes = plt.subplots()
    assert draw_comparisons(axes, [compared_curve(one, np.array([1.0, 2.0]))]) == (1e-3, 2e-3)
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[1.0, 1e-3], [2.0, 2e-3]]
    assert line.get_label() == "other"
    plt.close(figure)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("{gprim: []}", "found 'gprim', which has no figure; did you mean 'gprime'?"),
        (
            "{gprime: [{title: t, table: {m_X: [1 GeV, 2 GeV], value: [1, 2]}, source: assumption}]}",
            "found the mass 'm_X'",
        ),
        ("{gprime: [{title: t, table: {m_Zp: [2 GeV, 1 GeV], value: [1, 2]}, source: assumption}]}", "do not rise"),
        ("{gprime: [{title: t, table: {m_Zp: [1 GeV, 2 GeV], value: [1]}, source: assumption}]}", "different lengths"),
        (
            "{gprime: [{title: t, table: {m_Zp: [1 GeV, 2 GeV], value: [1 fb, 2 fb]}, source: assumption}]}",
            "expected a number",
        ),
        ("{gprime: [{title: t, source: assumption}]}", "missing; give `table`"),
        (
            "{gprime: [{title: t, muon_moment: x, difference: 1, error: 1, source: assumption}]}",
            "expected one of l-mu-l-tau",
        ),
    ],
)
def test_refusals(override: str, message: str) -> None:
    """Reads each message."""
    with pytest.raises(SpecError) as caught:
        load_search(SPEC, overrides=[INTERPRETED, f"comparisons={override}"])
    assert message in str(caught.value)
