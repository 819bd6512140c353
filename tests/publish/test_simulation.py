"""The figure of a simulated observable: first the numbers, then what stands on its face, then the files."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from modelbuilder.errors import FitFailure, UserError
from modelbuilder.histograms.peak import fit_peak, peak_edges
from modelbuilder.histograms.typeset import formula
from modelbuilder.publish import simulation, style
from modelbuilder.publish.simulation import Scale, SimulatedObservable

Floats = npt.NDArray[np.float64]


@pytest.fixture(autouse=True)
def no_state() -> Iterator[None]:
    """Invariant of every test here: matplotlib is left as it was, and pyplot knows of no figure."""
    before = mpl.rcParams.copy()
    yield
    assert {k: (v, before[k]) for k, v in mpl.rcParams.items() if k != "backend" and v != before[k]} == {}
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def observable_of(x: Floats, weights: Floats | None = None) -> SimulatedObservable:
    """A histogram with its fit, if there is a peak."""
    w = np.ones_like(x) if weights is None else weights
    edges = peak_edges(x, w)
    values, variances = (np.histogram(x, edges, weights=w**k)[0] for k in (1, 2))
    fit, reason = None, ""
    try:
        fit = fit_peak(edges, values, variances, reference=3.0)
    except FitFailure as failure:
        reason = failure.detail
    return SimulatedObservable(
        experiment="Belle II",
        search="An axion-like particle and a photon",
        process="e+ e- -> gamma a, a -> gamma gamma",
        point="$m_a$ = 3 GeV",
        label=r"$M_{\gamma\gamma}$",
        unit="GeV",
        edges=edges,
        values=values,
        variances=variances,
        fit=fit,
        no_fit=reason,
        efficiency=(0.34213, 0.00124),
    )


@functools.cache
def peak(n: int = 20_000, tail: float = 0.1) -> SimulatedObservable:
    """A normal peak at 3 GeV, 30 MeV wide, with a tail to the left for a fraction of the events; uneven weights."""
    rng = np.random.default_rng(1)
    x = rng.normal(3.0, 0.03, n) - np.where(rng.random(n) < tail, rng.exponential(0.1, n), 0.0)
    return observable_of(x, rng.lognormal(0.0, 0.5, n))


@functools.cache
def broad() -> SimulatedObservable:
    return observable_of(9.0 * np.random.default_rng(2).beta(2.0, 2.0, 20_000))


def empty() -> SimulatedObservable:
    nothing = np.zeros(100)
    start = peak()
    return replace(
        start, edges=np.linspace(2.0, 4.0, 101), values=nothing, variances=nothing, fit=None, efficiency=None
    )


def varied() -> SimulatedObservable:
    start = peak()
    up, down = np.roll(start.values, 3), np.roll(start.values, -3)
    return replace(start, varied={"energy scale": (up, down), "resolution": (1.4 * start.values, 0.7 * start.values)})


def long() -> SimulatedObservable:
    process = "e+ e- -> tau+ tau-, tau+ -> mu+ alpha, tau- -> pi- pi- pi+ nu_tau, alpha -> invisible " * 2
    return replace(peak(tail=0.3), process=process.strip(), search="A long title of a search for something " * 3)


CASES: dict[str, Callable[[], SimulatedObservable]] = {
    "peak": peak,
    "broad": broad,
    "empty": empty,
    "varied": varied,
    "long": long,
}


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


# ------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("value", "stdev", "unit", "text"),
    [
        (2.99989, 0.00026, "GeV", "2.99989 ± 0.00026 GeV"),
        (0.03009, 0.0002, "GeV", "30.09 ± 0.20 MeV"),
        (-0.00011, 0.00026, "GeV", "−0.11 ± 0.26 MeV"),
        (0.03009, 0.00036, "GeV", "30.1 ± 0.4 MeV"),
        (0.03009, 0.00097, "GeV", "30.1 ± 1.0 MeV"),
        (0.03009, 0.0036, "GeV^2", "0.030 ± 0.004 GeV$^{2}$"),
        (1234.5, 27.0, "1", "1234 ± 27"),
        (1234.5, 470.0, "1", "1200 ± 500"),
        (1.5e-9, 2e-11, "cm", r"(1.500 ± 0.020) $\times$ 10$^{-9}$ cm"),
        (0.02, math.nan, "GeV", "20 MeV"),
        (0.0, 0.0, "1", "0"),
    ],
)
def test_rounding(value: float, stdev: float, unit: str, text: str) -> None:
    """Reference: the PDG's rule by hand; catches digits that mean nothing, and a unit that does not go with a number."""
    assert simulation.with_stdev(value, stdev, unit) == text


def test_panel_keeps_every_entry() -> None:
    """Invariant: catches bins lost in merging, errors that are added and not their squares, and pulls of other bins."""
    start = peak()
    assert start.fit is not None
    panel = simulation.panel_of(start)
    assert 20 <= len(panel.values) <= simulation.MOST_BINS
    inside = (start.edges[:-1] >= panel.edges[0]) & (start.edges[1:] <= panel.edges[-1])
    assert panel.values.sum() == pytest.approx(start.values[inside].sum())
    assert np.sum(panel.stdevs**2) == pytest.approx(start.variances[inside].sum())
    assert set(panel.edges.tolist()) <= set(start.edges.tolist())
    assert panel.expected is not None
    assert panel.pulls is not None
    assert panel.expected == pytest.approx(start.fit.expected(panel.edges))
    # pulls of a fit that describes its data
    many = panel.expected > 50.0
    assert 0.5 < float(np.std(panel.pulls[many])) < 1.6
    sharp = panel.values > 100.0
    rough = (panel.values - panel.expected)[sharp] / panel.stdevs[sharp]
    assert panel.pulls[sharp] == pytest.approx(rough, rel=0.15, abs=0.05)


def test_panel_without_a_fit_shows_everything() -> None:
    """Catches entries that are cut off where there is no window of a fit."""
    start = broad()
    panel = simulation.panel_of(start)
    assert panel.pulls is None
    assert panel.values.sum() == pytest.approx(start.values.sum())
    assert len(panel.values) <= simulation.MOST_BINS
    assert len(simulation.panel_of(empty()).values) > 10


def test_numbers_on_the_figure() -> None:
    """Catches a figure that quotes other numbers than the fit, and one that leaves out that it does not fit."""
    start = peak()
    assert start.fit is not None
    assert start.fit.left is not None
    lines = simulation.lines_of(start)
    assert f"$\\sigma$ = {simulation.with_stdev(start.fit.sigma, start.fit.sigma_stdev, 'GeV')}" in lines
    assert any(line.startswith(r"$\alpha_L$") for line in lines)
    assert any(line.startswith(r"$\sigma_{68}$") for line in lines)
    assert any(line.startswith("bias = ") for line in lines)
    assert "efficiency = (34.21 ± 0.12) %" in lines
    # log-normal weights of width 0.5: the sample is worth exp(-0.25) of its size
    (entries,) = [line for line in lines if line.startswith("effective entries")]
    number = float("".join(c for c in entries if c.isdigit()))
    assert number == pytest.approx(20_000 * math.exp(-0.25), rel=0.03)
    bad = replace(start, fit=replace(start.fit, acceptable=False))
    assert simulation.lines_of(bad)[0] == f"{simulation.lines_of(start)[0]}, does not fit"


def test_no_width_without_a_peak() -> None:
    """Catches a resolution on the figure of a continuum, and a reader who is not told why there is none."""
    lines = simulation.lines_of(broad())
    assert " ".join(lines).startswith("not fitted: a polynomial of order 2")
    assert not any(r"\sigma" in line or r"\mu" in line for line in lines)
    assert simulation.lines_of(empty()) == ["effective entries: 0"]


@pytest.mark.parametrize(
    ("process", "text"),
    [
        ("e+ e- -> gamma a, a -> gamma gamma", r"$e^{+} e^{-} \to \gamma a ,\; a \to \gamma \gamma$"),
        ("B+ -> K+ Zp", r"$B^{+} \to K^{+} Z'$"),
        ("gamma YD", r"$\gamma Y_{D}$"),
        ("tau- -> mu- nubar_mu nu_tau", r"$\tau^{-} \to \mu^{-} \bar{\nu}_{\mu} \nu_{\tau}$"),
        ("gamma eta_prime", r"$\gamma \eta^\prime(958)$"),
        ("all (other) backgrounds", "all (other) backgrounds"),
    ],
)
def test_formula(process: str, text: str) -> None:
    """Catches arrows and Greek letters as plain text, and a title in words that is torn into letters."""
    assert formula(process) == text


# ---------------------------------------------------------------------------------------------------------- faces


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_face(name: str, scale: Scale) -> None:
    """Catches a simulation that is not called so, axes without unit, and texts or curves that run into each other."""
    observable = CASES[name]()
    figure = simulation.observable_figure(observable, scale=scale)
    texts = texts_of(figure)
    assert {"simulation", "Belle II", "$m_a$ = 3 GeV", r"$M_{\gamma\gamma}$ [GeV]"} <= set(texts)
    assert len(figure.axes) == (2 if observable.fit is not None else 1)
    assert ("pull" in texts) == (observable.fit is not None)
    assert ("no entries" in texts) == (name == "empty")
    axes = figure.axes[0]
    assert axes.get_yscale() == (scale if name != "empty" else "linear")
    with style.house_style():
        figure.canvas.draw()
    found = [*axes.texts, axes.yaxis.label, *(a.xaxis.label for a in figure.axes)]
    blocks = [(text.get_text(), text.get_window_extent()) for text in found if text.get_text().strip()]
    legend = axes.get_legend()
    if legend is not None:
        labels = [text.get_text() for text in legend.get_texts()]
        assert labels[0] == "simulation"
        assert len(set(labels)) == len(labels) == 1 + (observable.fit is not None) + 2 * len(observable.varied)
        blocks.append(("legend", legend.get_window_extent()))
    for i, (text, box) in enumerate(blocks):
        for other_text, other in blocks[i + 1 :]:
            assert not box.padded(-1.0).overlaps(other.padded(-1.0)), f"{text!r} runs into {other_text!r}"
    # what is drawn stays clear of the numbers and the legend, and within the frame
    numbers = next(box for text, box in blocks if "effective entries" in text)
    panel = simulation.panel_of(observable)
    tops = panel.values + panel.stdevs
    corners = axes.transData.transform(
        np.column_stack([np.repeat(panel.edges, 2)[1:-1], np.maximum(np.repeat(tops, 2), axes.get_ylim()[0])])
    )
    frame = axes.get_window_extent()
    for x, y in corners.tolist():
        assert y <= frame.y1
        point = Bbox.from_extents(x, y, x + 1e-3, y + 1e-3)
        for box in (numbers, *(box for text, box in blocks if text == "legend")):
            assert not box.overlaps(point)


def test_the_curve_is_the_fit() -> None:
    """Catches a curve in other units than the points: it has to go through the expectation of the bins."""
    start = peak()
    assert start.fit is not None
    figure = simulation.observable_figure(start)
    (curve,) = [line for line in figure.axes[0].get_lines() if line.get_label() == "fit"]
    panel = simulation.panel_of(start)
    assert panel.expected is not None
    x, y = np.asarray(curve.get_xdata(), dtype=float), np.asarray(curve.get_ydata(), dtype=float)
    centres = 0.5 * (panel.edges[1:] + panel.edges[:-1])
    inside = (centres > x[0]) & (centres < x[-1])
    assert np.interp(centres, x, y)[inside] == pytest.approx(panel.expected[inside], rel=0.01, abs=1.0)


# ---------------------------------------------------------------------------------------------------------- files


def test_files(tmp_path: Path) -> None:
    """Invariant: the same bytes twice, by suffix or both, nothing else; catches a date, and a point in a name."""
    start = peak(5000)
    written = simulation.draw_observable(tmp_path / "a" / "m_a=1.5", start)
    assert [path.name for path in written] == ["m_a=1.5.pdf", "m_a=1.5.png", "m_a=1.5.csv"]
    single = simulation.draw_observable(tmp_path / "a" / "b.png", start)
    assert [path.name for path in single] == ["b.png", "b.csv"]
    pdf = simulation.draw_observable(tmp_path / "a" / "b.pdf", start)
    assert sorted((tmp_path / "a").iterdir()) == sorted({*written, *single, *pdf})
    assert single[0].read_bytes() == written[1].read_bytes()
    assert pdf[0].read_bytes() == written[0].read_bytes()
    assert pdf[0].read_bytes().startswith(b"%PDF")
    assert single[0].read_bytes().startswith(b"\x89PNG")
    other = simulation.draw_observable(tmp_path / "c.png", start, scale="log")
    assert other[0].read_bytes() != single[0].read_bytes()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Catches a traceback for a path that cannot be, and a temporary file that stays."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.png").mkdir()
    for name in ("file/a.png", "folder.png"):
        with pytest.raises(UserError, match="cannot be written"):
            simulation.draw_observable(tmp_path / name, empty())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]
