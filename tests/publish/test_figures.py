"""Figures: first the arrays, then what stands on their face, then the files."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from modelbuilder.errors import RunDirectoryError
from modelbuilder.publish import figures, style
from modelbuilder.publish.figures import Spectrum
from modelbuilder.scan.store import load_run
from modelbuilder.spec.load import LoadedSearch, load_search

SPEC = Path(__file__).parents[2] / "specs" / "belle2" / "alp_gammagamma_2018.yaml"
BANDS = ("observed", "expected_m2", "expected_m1", "expected", "expected_p1", "expected_p2")
FACE = "simulated, pseudo-data (seed 2018)"

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def no_state() -> Iterator[None]:
    """Invariant of every test here: matplotlib is left as it was, and no figure stays open that we saved."""
    before = mpl.rcParams.copy()
    yield
    plt.close("all")
    assert {k: (v, before[k]) for k, v in mpl.rcParams.items() if k != "backend" and v != before[k]} == {}


@pytest.fixture
def search() -> LoadedSearch:
    return load_search(SPEC, overrides=["grid.m_a.gaps=[{low: 2 GeV, high: 3 GeV, source: assumption}]"])


def row(mass: float, method: str = "cls", scale: float | None = 1.0) -> Row:
    """A row with simple numbers; with `scale` None, of a point that failed."""
    found: Row = {"point": f"m{mass}", "m_a_gev": mass, "channel": "diphoton", "method": method}
    found["status"] = "ok" if scale is not None else "not-converged"
    for band, value in zip(BANDS, (10.0, 1.0, 5.0, 9.0, 20.0, 40.0), strict=True):
        found[f"cross_section_fb_{band}"] = None if scale is None else scale * value
    return found


SCALES = {1.0: 1.0, 1.5: 2.0, 2.0: None, 3.0: 1.0, 4.0: 3.0}
ROWS = [row(mass, method, scale) for mass, scale in SCALES.items() for method in ("profile-likelihood", "cls")]


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]  # type: ignore[union-attr]


def boxes_of(figure: Figure) -> list[tuple[str, Bbox]]:
    """Boxes, in pixels, of all texts but the numbers at the ticks."""
    figure.canvas.draw()
    found: list[Text] = []
    for axes in figure.axes:
        found += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        legend = axes.get_legend()
        found += [*legend.get_texts(), legend.get_title()] if legend else []
    return [(text.get_text(), text.get_window_extent()) for text in found if text.get_text().strip()]


# ------------------------------------------------------------------------------------------------------- numbers


def test_limit_curve(search: LoadedSearch) -> None:
    """Catches rows of the other method, bands in another order, and a failed point that is a number."""
    curve = figures.limit_curve(search, ROWS, "cross_section_fb", "cls")
    assert curve.mass.tolist() == [1.0, 1.5, 2.0, 3.0, 4.0]
    expected = np.array([[1.0, 2.0, math.nan, 1.0, 3.0]])
    assert np.array_equal(curve.observed, (10.0 * expected)[0], equal_nan=True)
    assert np.array_equal(curve.bands, np.array([[1.0], [5.0], [9.0], [20.0], [40.0]]) * expected, equal_nan=True)
    assert curve.confidence_level == 0.95


def test_a_gap_of_the_grid_splits_the_curve(search: LoadedSearch) -> None:
    """Catches a line across masses that were vetoed, and points that are lost at the ends of a gap."""
    curve = figures.limit_curve(search, ROWS, "cross_section_fb", "cls")
    assert [(part.start, part.stop) for part in curve.segments] == [(0, 3), (3, 5)]  # 2 and 3 GeV are grid points
    whole = figures.limit_curve(load_search(SPEC), ROWS, "cross_section_fb", "cls")
    assert [(part.start, part.stop) for part in whole.segments] == [(0, 5)]
    coarse = [row(0.5), row(5.0)]
    assert len(figures.limit_curve(search, coarse, "cross_section_fb", "cls").segments) == 2


def test_upper_edges(search: LoadedSearch) -> None:
    """Catches an interval that looks open: both edges are drawn, and fit below the legend; no line where there is none."""
    rows = [row(mass) for mass in (1.0, 4.0)]
    edges = {"cross_section_fb_observed_upper_edge": 700.0, "cross_section_fb_expected_upper_edge": 900.0}
    curve = figures.limit_curve(search, [rows[0] | edges, rows[1]], "cross_section_fb", "cls")
    assert np.array_equal(curve.upper_edges, [[700.0, math.nan], [900.0, math.nan]], equal_nan=True)
    assert figures.ceiling_of(curve) == pytest.approx(12.0 * 900.0)
    drawn = []
    for chosen in (curve, figures.limit_curve(search, rows, "cross_section_fb", "cls")):
        _, axes = plt.subplots()
        figures.draw_limits(axes, chosen, [], 1.0)
        drawn.append([np.asarray(line.get_ydata()).tolist()[0] for line in axes.lines])
    assert {700.0, 900.0} <= set(drawn[0])
    assert len(drawn[0]) == len(drawn[1]) + 4  # two lines for each of the two segments


def test_floor(search: LoadedSearch) -> None:
    """Catches a logarithmic axis that starts at a limit of 0, or that one tiny limit stretches without end."""

    def floor(*rows: Row) -> float:
        return figures.floor_of([figures.limit_curve(search, rows, "cross_section_fb", "cls")])

    assert floor(row(1.0)) == pytest.approx(1.8)  # a fifth of the median, as half of the lowest band is lower
    zero = row(1.0) | {"cross_section_fb_expected_m2": 0.0, "cross_section_fb_observed": 1e-9}
    assert floor(zero) == pytest.approx(1.8)
    assert floor(row(1.0) | {"cross_section_fb_expected_m2": 4.0}) == pytest.approx(2.0)
    assert floor(row(1.0, scale=None)) == pytest.approx(0.1)


def spectrum(**parts: float) -> Spectrum:
    values = {name: np.full(4, size) for name, size in parts.items()}
    total = np.sum(list(values.values()), axis=0)
    observed = np.array([0.0, 4.0, 9.0, 16.0])
    return Spectrum(
        edges=np.arange(5.0), observed=observed, parts=values, signal=None, signal_text="", total=total, stdevs=None
    )


def test_pulls() -> None:
    """Reference: (observed - expected) / sqrt(expected), and 0 where nothing is expected."""
    assert figures.pulls_of(spectrum(a=3.0, b=1.0)) == pytest.approx([-2.0, 0.0, 2.5, 6.0])
    assert figures.pulls_of(spectrum(a=0.0)).tolist() == [0.0] * 4


def test_what_nobody_could_see_is_not_in_the_legend() -> None:
    """Catches a legend full of samples without events."""
    found = figures.visible_parts(spectrum(big=100.0, small=1.0, none=0.0, tiny=0.1))
    assert [name for name, _ in found] == ["small", "big"]


def test_spectra_are_the_templates(small_run: Path) -> None:
    """Catches a figure of another point, and a signal that is not at the limit it claims."""
    search, rows = load_run(small_run)
    chosen = rows[3]
    found = figures.prefit_spectrum(search, small_run, chosen)
    assert found.signal is not None
    # entries in the window for one selected event: nearly always the right pair, sometimes wrong ones as well
    assert 0.8 < float(found.signal.sum()) / chosen["yield_events_expected"] < 3.0
    assert float(found.total.sum()) == pytest.approx(chosen["background_events"], rel=1e-9)
    assert np.sum(list(found.parts.values()), axis=0) == pytest.approx(found.total)
    after, pulls = figures.postfit_spectrum(search, small_run, chosen)
    assert np.array_equal(after.observed, found.observed)
    assert after.signal is not None
    assert np.sum([*after.parts.values(), after.signal], axis=0) == pytest.approx(after.total, rel=1e-9)
    assert abs(float(after.total.sum() - after.observed.sum())) < 5.0 * math.sqrt(float(after.total.sum()))
    assert {pull.parameter for pull in pulls} <= {*search.spec.systematics, "lumi"}


# ---------------------------------------------------------------------------------------------------------- faces


def limit_figure(search: LoadedSearch, rows: list[Row], method: str = "cls") -> Figure:
    return figures.limit_figure(search, rows, "cross_section_fb", r"$\sigma$ [fb]", method)


def test_limit_figure(search: LoadedSearch) -> None:
    """Catches simulated data that are not called so, axes without units, and a legend that names things twice."""
    figure = limit_figure(search, ROWS)
    texts = texts_of(figure)
    assert FACE in texts
    assert "Belle II" in texts
    assert "$m_{a}$ [GeV]" in texts
    assert r"$\sigma$ [fb]" in texts
    assert any(text.startswith("95% CL upper limit") for text in texts)
    assert any("445 pb$^{-1}$" in text for text in texts)
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert len(labels) == len(set(labels)) == 5
    assert all(labels)


def test_a_method_without_a_band() -> None:
    """Catches an empty band in the legend, or a median that nobody has computed; for its own figure and beside another."""
    search = load_search(SPEC, overrides=["statistics.methods=[cls, feldman-cousins]"])
    rows = [row(mass, method) for mass in (1.0, 2.0) for method in ("cls", "feldman-cousins")]
    for found in rows[1::2]:
        found.update({f"cross_section_fb_{band}": None for band in BANDS[1:]})
    labels = {}
    for method in ("cls", "feldman-cousins"):
        (axes,) = limit_figure(search, rows, method).axes
        labels[method] = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels["feldman-cousins"] == ["observed", "expected median, CL$_s$"]
    assert labels["cls"][-2:] == ["observed", "observed, Feldman-Cousins"]
    assert len(labels["cls"]) == 5


def test_asimov_data_are_called_so() -> None:
    """Catches a figure that calls Asimov data pseudo-data, or nothing at all."""
    figure = limit_figure(load_search(SPEC, overrides=["data={kind: asimov}"]), ROWS)
    assert "simulated, Asimov data" in texts_of(figure)


def test_no_line_across_a_gap(search: LoadedSearch) -> None:
    """Catches a line that is drawn from 2 to 3 GeV although both ends are grid points."""
    (axes,) = limit_figure(search, ROWS).axes
    lines = [np.asarray(line.get_xdata()) for line in axes.get_lines() if len(np.asarray(line.get_xdata())) > 1]
    assert not any(line.min() <= 2.0 and line.max() >= 3.0 for line in lines if line.min() != line.max())


def test_failed_points_leave_holes() -> None:
    """Catches a failed fit in the middle of a curve that is drawn, or that stops the figure."""
    search = load_search(SPEC)
    curve = figures.limit_curve(search, ROWS, "cross_section_fb", "cls")
    (axes,) = limit_figure(search, ROWS).axes
    (median,) = [line for line in axes.get_lines() if line.get_label() == "expected median"]
    drawn = np.asarray(median.get_ydata(), dtype=float)
    assert np.array_equal(np.isnan(drawn), np.isnan(curve.bands[2]))


def test_limits_below_the_axis_are_marked(search: LoadedSearch) -> None:
    """Catches an observed limit of 0, which a logarithmic axis cannot show, that silently disappears."""
    rows = [row(mass, method) for mass in (1.0, 1.5, 1.8) for method in ("profile-likelihood", "cls")]
    rows[3]["cross_section_fb_observed"] = 0.0
    (axes,) = limit_figure(search, rows).axes
    (marker,) = [line for line in axes.get_lines() if line.get_label() == "observed below the axis"]
    assert np.asarray(marker.get_xdata()).tolist() == [1.5]


@pytest.mark.parametrize(
    ("luminosity", "text"),
    [
        ("445 pb^-1", "445 pb"),
        ("0.5 ab^-1", "500 fb"),
        ("1 fb^-1", "1 fb"),
        ("50 ab^-1", "50 ab"),
        ("62.8 fb^-1", "62.8 fb"),
    ],
)
def test_luminosity(luminosity: str, text: str) -> None:
    """Catches a unit that does not go with its number."""
    search = load_search(SPEC, overrides=[f"luminosity.value={luminosity}"])
    assert f"= {text}$^{{-1}}$" in figures.luminosity_text(search.spec)


def test_process_as_a_formula() -> None:
    """Catches arrows and Greek letters as plain text, and a title in words that is torn into letters."""
    assert figures.process_text("e+ e- -> gamma eta'") == r"$e^{+} e^{-} \to \gamma \eta^\prime(958)$"
    assert figures.process_text("all other backgrounds") == "all other backgrounds"


@pytest.mark.parametrize("index", [0, 2, 7])
def test_spectrum_figures(small_run: Path, index: int) -> None:
    """Catches simulated data that are not called so on a spectrum, and an axis without its unit."""
    search, rows = load_run(small_run)
    chosen = rows[index]
    after, _ = figures.postfit_spectrum(search, small_run, chosen)
    for found, when in ((figures.prefit_spectrum(search, small_run, chosen), "before"), (after, "after")):
        figure = figures.spectrum_figure(search, found, chosen)
        texts = texts_of(figure)
        assert FACE in texts
        assert any("[GeV$^2$]" in text for text in texts)
        assert any(text.endswith(f"{when} the fit") for text in texts)
        labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
        assert len(labels) == len(set(labels))
        assert "pseudo-data" in labels
        colours = {artist.get_facecolor() for artist in figure.axes[0].patches}
        assert mpl.colors.to_rgba(style.SIGNAL, 0.75) not in colours, "a background has the colour of the signal"


def test_texts_do_not_overlap(small_run: Path) -> None:
    """Catches labels that run into each other: names above the axes, titles, legends."""
    search, rows = load_run(small_run)
    all_figures = [
        limit_figure(search, rows, "profile-likelihood"),
        limit_figure(search, rows, "cls"),
        figures.spectrum_figure(search, figures.prefit_spectrum(search, small_run, rows[0]), rows[0]),
    ]
    for figure in all_figures:
        with style.house_style():
            boxes = boxes_of(figure)
        for i, (name, box) in enumerate(boxes):
            for other_name, other in boxes[i + 1 :]:
                assert not box.padded(-2.0).overlaps(other.padded(-2.0)), f"{name!r} runs into {other_name!r}"


# ---------------------------------------------------------------------------------------------------------- files


def test_files_are_the_same_twice(small_run: Path, tmp_path: Path) -> None:
    """Invariant: catches a date or a random name in a figure; and figures that stay open."""
    search, rows = load_run(small_run)
    contents = []
    for name in ("first", "second"):
        path = tmp_path / name
        shutil.copytree(small_run, path)
        written = figures.draw_limit_figures(search, path, rows) + figures.draw_point_figures(search, path, rows[2])
        assert all(
            p.parent == path / "figures" and p.stat().st_size > (5000 if p.suffix != ".csv" else 100) for p in written
        )
        assert sorted(written) == sorted((path / "figures").iterdir())  # nothing temporary is left
        contents.append({p.name: p.read_bytes() for p in written})
    assert plt.get_fignums() == []
    assert contents[0].keys() == contents[1].keys()
    assert [name for name in contents[0] if contents[0][name] != contents[1][name]] == []
    kinds = {name.split("_m_a_")[0].split(".")[0] for name in contents[0]}
    methods = ("profile-likelihood", "cls")
    limits = {f"limit_{quantity}_{m}" for quantity in ("cross_section_fb", "g_agammagamma_per_gev") for m in methods}
    assert kinds == {*limits, "templates", "postfit", "pulls"}
    assert {Path(name).suffix for name in contents[0]} == {".pdf", ".png", ".csv"}
    for name, content in contents[0].items():
        if not name.endswith(".csv"):
            assert content.startswith(b"%PDF" if name.endswith(".pdf") else b"\x89PNG")


def test_axes_of_couplings() -> None:
    """Catches two interpretations of one model that look the same."""
    models = "{model: alp-photon-escaping, length: 3 m, source: assumption}"
    search = load_search(
        SPEC, overrides=[f"interpretations.{name}_per_gev={models}" for name in ("g_agammagamma_escaping", "g_far")]
    )
    symbol = r"$g_{a\gamma\gamma}$ [GeV$^{-1}$]"
    found = figures.limited_quantities(search)
    del found["cross_section_fb"]
    assert found == {
        "g_agammagamma_per_gev": symbol,
        "g_agammagamma_escaping_per_gev": f"{symbol} (escaping)",
        "g_far_per_gev": f"{symbol} (g far)",
    }


def test_what_is_excluded_nowhere_is_not_drawn(search: LoadedSearch, tmp_path: Path) -> None:
    """Catches a figure without anything in it, and one that is missing because of it."""
    drawn = figures.draw_limit_figures(search, tmp_path, [row(1.0, method) for method in ("profile-likelihood", "cls")])
    assert {path.stem.removesuffix("_cls").removesuffix("_profile-likelihood") for path in drawn} == {
        "limit_cross_section_fb"
    }


def test_nothing_to_draw(search: LoadedSearch, tmp_path: Path) -> None:
    """Catches a run without a single limit that ends in a traceback."""
    with pytest.raises(RunDirectoryError, match="no point has a limit"):
        figures.draw_limit_figures(search, tmp_path, [row(1.0, scale=None)])
    with pytest.raises(RunDirectoryError, match="was this point built"):
        figures.prefit_spectrum(search, tmp_path, row(1.0))


TWO_AXES = Path(__file__).parents[1] / "histograms" / "searches" / "two_observables.yaml"


def flat_spectrum() -> Spectrum:
    """Two bins of the first observable, three of the second, which run fastest."""
    values = np.arange(1.0, 7.0)
    return Spectrum(
        edges=np.array([0.0, 1.0, 2.0]), observed=2.0 * values, parts={"four leptons": values}, signal=0.5 * values,
        signal_text="signal", total=values, stdevs=0.1 * values,
    )  # fmt: skip


def test_projections_and_slices() -> None:
    """By hand: 1 2 3 | 4 5 6. Catches axes that are exchanged, and an uncertainty that is added as if uncorrelated."""
    flat = flat_spectrum()
    assert flat.n_second == 3
    whole, second = flat.projection(), flat.slice(1)
    assert whole.observed.tolist() == [12.0, 30.0]
    assert whole.parts["four leptons"].tolist() == [6.0, 15.0]
    assert whole.stdevs is None
    assert second.total.tolist() == [2.0, 5.0]
    assert second.stdevs is not None
    assert second.stdevs == pytest.approx([0.2, 0.5])
    assert whole.projection() is whole


def test_slices_say_which_they_are() -> None:
    """Catches panels in another order than the bins, and angles in radians."""
    search = load_search(TWO_AXES)
    found = figures.slices_figure(search, flat_spectrum(), {"channel": "recoil", "m_Zp_gev": 4.0})
    panels = [axes for axes in found.axes if axes.get_visible()]
    assert [axes.texts[0].get_text() for axes in panels] == ["0 to 60 deg", "60 to 120 deg", "120 to 180 deg"]
    texts = texts_of(found)
    assert any(text.startswith("simulated, pseudo-data (seed 3)") for text in texts)
    assert any("= 4 GeV, before the fit" in text for text in texts)


def test_the_axis_of_light_masses_is_logarithmic() -> None:
    """Catches a grid over decades that is squeezed into the left edge, and a grid from near zero that is stretched."""
    assert figures.is_logarithmic(np.geomspace(1e-3, 0.2, 60))
    assert not figures.is_logarithmic(np.linspace(0.01, 8.0, 166))
    assert not figures.is_logarithmic(np.array([0.3, 1.0, 9.0]))
