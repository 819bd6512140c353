"""Sidebands of counting channels: which events they hold, what a workspace says of them, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyhf
import pytest

from modelbuilder.errors import SpecError
from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.scan.point import BuiltPoint, build_point
from modelbuilder.spec.load import LoadedSearch, load_search
from modelbuilder.spec.summary import summary_lines

SEARCHES = Path(__file__).parent / "searches"
BESIDE, ELSEWHERE = "sideband.yaml", "sideband_elsewhere.yaml"
GAP = (0.467, 0.529)  # GeV, of the spec
SLOPE = "{pair: {at: [0.2 GeV, 1.2 GeV], events: [1, 6], per: 20 MeV, luminosity: 365 fb^-1, source: assumption}}"


def search(name: str = BESIDE, *overrides: str) -> LoadedSearch:
    return load_search(SEARCHES / name, overrides=overrides)


def built(loaded: LoadedSearch, *masses: float) -> tuple[RegionTemplates, list[BuiltPoint]]:
    """The region, and the grid points nearest to some masses, GeV."""
    simulation = Simulation(loaded)
    points = [min(loaded.points, key=lambda point: abs(point.mass - mass)) for mass in masses]
    region = simulation.background(simulation.region_of(points[0]))
    return region, [build_point(loaded, simulation, region, point) for point in points]


def channels_of(found: BuiltPoint) -> dict[str, dict[str, Any]]:
    """Samples by channel and name."""
    return {
        channel["name"]: {sample["name"]: sample for sample in channel["samples"]}
        for channel in found.built.workspace["channels"]
    }


def modifiers(sample: dict[str, Any]) -> dict[str, str]:
    return {modifier["name"]: modifier["type"] for modifier in sample["modifiers"]}


def test_transfer_factor_is_the_ratio_of_widths() -> None:
    """Closed form: a flat spectrum. At 0.45 GeV a part of the sideband lies in a gap and does not count.

    Catches a window that counts in its own sideband, bins that are left out on one side only, and gaps that are not.
    """
    _, (free, cut) = built(search(), 0.8, 0.45)
    for found, width in ((free, 0.16), (cut, 0.08 + 0.55 - 0.53)):
        window, sideband = (channels_of(found)[name]["combinatorial"]["data"][0] for name in ("pair", "pair_sideband"))
        assert window == pytest.approx(0.5, rel=1e-6)
        assert sideband == pytest.approx(0.5 * width / 0.02, rel=0.03 if found is cut else 1e-6)
    region = Simulation(search()).regions["pair"]
    bins = region.sideband.at(region.binning, 0.45)  # type: ignore[union-attr]
    low, high = region.binning.edges[bins], region.binning.edges[bins + 1]
    assert np.all((high <= GAP[0] + 1e-6) | (low >= GAP[1] - 1e-6))
    assert low.min() == pytest.approx(0.35)
    assert not np.any((low < 0.47 - 1e-6) & (high > 0.43 + 1e-6))


def test_transfer_factor_of_a_slope() -> None:
    """Closed form: the integral of a straight line over the sideband, which is not that of its middle.

    Catches the ratio of widths where a spectrum is stated.
    """
    _, (found,) = built(search(BESIDE, f"backgrounds.combinatorial.expected={SLOPE}"), 0.9)
    window, sideband = (channels_of(found)[name]["combinatorial"]["data"][0] for name in ("pair", "pair_sideband"))

    def integral(low: float, high: float) -> float:
        middle = 0.5 * (low + high)
        return (1.0 + 5.0 * (middle - 0.2)) / 0.02 * (high - low)

    assert window == pytest.approx(integral(0.89, 0.91), rel=1e-6)
    assert sideband == pytest.approx(integral(0.8, 0.88) + integral(0.92, 1.0), rel=1e-6)


def test_data_are_those_of_one_spectrum() -> None:
    """Invariant: catches data that are thrown anew for each window. What one mass counts in its window, its neighbour
    counts in its sideband."""
    region, (one, two) = built(search(BESIDE, f"backgrounds.combinatorial.expected={SLOPE}"), 0.8, 0.83)
    for found in (one, two):
        low, high = found.templates.edges
        edges = region.region.binning.edges
        inside = (edges[:-1] >= low - 1e-9) & (edges[1:] <= high + 1e-9)
        window, sideband = (item["data"][0] for item in found.built.workspace["observations"])
        assert window == region.observation[inside].sum()
        distance = np.abs(0.5 * (edges[1:] + edges[:-1]) - found.point.mass)
        beside = (distance > 0.02) & (distance < 0.1)
        assert sideband == region.observation[beside].sum()
    assert one.point.mass != two.point.mass


def test_workspace_in_stock_pyhf() -> None:
    """Catches anything beyond plain HistFactory, a rate that is not shared, and a transfer factor without its error."""
    _, (found,) = built(search(), 0.8)
    workspace = pyhf.Workspace(json.loads(json.dumps(found.built.workspace, allow_nan=False)))
    model = workspace.model()
    window, sideband = channels_of(found)["pair"], channels_of(found)["pair_sideband"]
    assert modifiers(window["combinatorial"]) == {"combinatorial_rate": "normfactor", "flatness": "normsys"}
    assert modifiers(sideband["combinatorial"]) == {"combinatorial_rate": "normfactor"}
    assert modifiers(window["signal"]) == {"mu": "normfactor", "lumi": "lumi", "tracking": "normsys"}
    assert "signal" not in sideband  # 4 resolutions away is next to nothing of it
    config = model.config
    values = np.array(config.suggested_init())
    values[config.par_map["mu"]["slice"]] = 0.0
    values[config.par_map["combinatorial_rate"]["slice"]] = 0.0
    assert model.expected_data(values, include_auxdata=False).tolist() == [0.0, 0.0]
    assert not [message for message in found.built.lint if message.severity == "error"]


@pytest.mark.parametrize(("events", "scale"), [(0.5, 1.0), (1e-4, 0.5e-4 / 0.25)])
def test_rate_reaches_what_is_seen(events: float, scale: float) -> None:
    """Catches a bound of the free rate that many more events than expected would run into, and a nominal yield that the
    scale of a small expectation changes."""
    expected = f"{{pair: {{events: [{events}], per: 20 MeV, luminosity: 365 fb^-1, source: assumption}}}}"
    _, (found,) = built(search(BESIDE, f"backgrounds.combinatorial.expected={expected}"), 0.8)
    (rate,) = (
        entry
        for entry in found.built.workspace["measurements"][0]["config"]["parameters"]
        if entry["name"] == "combinatorial_rate"
    )
    window, sideband = (channels_of(found)[name]["combinatorial"]["data"][0] for name in ("pair", "pair_sideband"))
    assert rate["inits"][0] * window == pytest.approx(events, rel=1e-6)
    assert rate["inits"][0] * sideband == pytest.approx(8.0 * events, rel=1e-6)
    observed = sum(item["data"][0] for item in found.built.workspace["observations"])
    assert rate["bounds"][0][1] * sideband >= 10.0 * (observed + 2.0) * (1.0 - 1e-9)


def test_signal_in_the_sideband() -> None:
    """Second method: the signal templates of a window as wide as the sideband, and no count.

    Catches a leakage that is not normalised as the signal of the window is.
    """
    wide = ("channels.pair.sideband={window: 16 resolution, source: assumption}",)
    _, (found,) = built(search(BESIDE, *wide), 0.8)
    _, (whole,) = built(search(BESIDE, *wide, "channels.pair.window=16 resolution", *NO_SIDEBAND), 0.8)
    window, sideband = channels_of(found)["pair"]["signal"], channels_of(found)["pair_sideband"]["signal"]
    together = (window["data"][0] + sideband["data"][0]) / found.built.reference
    assert together == pytest.approx(whole.templates.signal.nominal.total, rel=1e-9)
    assert sideband["data"][0] > 1e-3 * window["data"][0]
    assert modifiers(sideband) == modifiers(window)


NO_SIDEBAND = ("channels.pair.sideband=null", "backgrounds.combinatorial.rate=fixed", "systematics.flatness=null")


def test_sideband_elsewhere() -> None:
    """Closed form: expected events are those of the window over the transfer factor, which is a line in the mass here.

    Catches the factor of another mass, and signal that leaks without its own normalisation.
    """
    region, found = built(search(ELSEWHERE), 0.3, 0.8)
    assert region.elsewhere is not None
    for one in found:
        window, sideband = channels_of(one)["pair"], channels_of(one)["pair_sideband"]
        transfer = 0.1 + 0.2 * (one.point.mass - 0.3) / 0.7
        scale = sideband["combinatorial"]["data"][0]
        assert window["combinatorial"]["data"][0] / scale == pytest.approx(transfer, rel=0.03)
        assert sideband["signal"]["data"][0] == pytest.approx(0.02 * window["signal"]["data"][0], rel=1e-9)
        bins = region.region.window(one.point.mass)
        assert one.built.workspace["observations"][1]["data"] == [region.elsewhere.observation[bins].sum()]
    again, _ = built(search(ELSEWHERE), 0.3)
    assert again.elsewhere is not None
    assert np.array_equal(again.elsewhere.observation, region.elsewhere.observation)
    assert region.elsewhere.observation.sum() == pytest.approx(
        region.elsewhere.expected.sum(), abs=5.0 * math.sqrt(region.elsewhere.expected.sum())
    )


FIXED_CHANNEL = (
    "channels.pair={observable: mass(mu+ mu-), range: [0.7 GeV, 0.9 GeV], bins: 1, "
    "sideband: {range: [0.5 GeV, 1 GeV], source: assumption}, source: assumption}"
)
FIXED = (FIXED_CHANNEL, "grid.m_S={segments: [{values: [0.8 GeV], source: assumption}]}")


def test_fixed_range() -> None:
    """Closed form: a range of 200 MeV and sidebands of 200 and 100 MeV on either side."""
    _, (found,) = built(search(BESIDE, *FIXED), 0.8)
    window, sideband = channels_of(found)["pair"], channels_of(found)["pair_sideband"]
    assert found.templates.edges.tolist() == pytest.approx([0.7, 0.9])
    assert window["combinatorial"]["data"] == pytest.approx([5.0])
    assert sideband["combinatorial"]["data"] == pytest.approx([7.5])


def test_asimov_data() -> None:
    """Catches data of the sideband that are thrown although the expectation is asked for."""
    for name in (BESIDE, ELSEWHERE):
        _, (found,) = built(search(name, "data={kind: asimov}"), 0.8)
        rate = next(
            entry["inits"][0]
            for entry in found.built.workspace["measurements"][0]["config"]["parameters"]
            if entry["name"] == "combinatorial_rate"
        )
        for channel, item in zip(found.built.workspace["channels"], found.built.workspace["observations"], strict=True):
            (sample,) = (one for one in channel["samples"] if one["name"] == "combinatorial")
            assert item["data"] == pytest.approx([rate * sample["data"][0]])


def test_other_backgrounds_are_in_both() -> None:
    """Catches a known background that is counted in the window only, so that the sideband takes it for the other."""
    peak = (
        "backgrounds.flat={title: flat, shape: stated, rate: fixed, expected: {pair: {events: [2], per: 20 MeV, "
        "luminosity: 365 fb^-1, source: assumption}}}"
    )
    error = "systematics.size_of_flat={kind: rate, size: 20 %, on: [flat], source: assumption}"
    _, (found,) = built(search(BESIDE, peak, error), 0.8)
    channels = channels_of(found)
    assert channels["pair"]["flat"]["data"] == pytest.approx([2.0])
    assert channels["pair_sideband"]["flat"]["data"] == pytest.approx([16.0])
    assert modifiers(channels["pair_sideband"]["flat"]) == {"size_of_flat": "normsys"}
    _, (found,) = built(search(ELSEWHERE, peak, error), 0.8)
    assert set(channels_of(found)["pair_sideband"]) == {"combinatorial", "signal"}


@pytest.mark.parametrize(("mass", "rules"), [(0.4, ["empty-sideband", "empty-window"]), (0.66, ["empty-window"])])
def test_no_transfer_factor_is_an_error(mass: float, rules: list[str]) -> None:
    """Catches a division by nothing, and a transfer factor of exactly 0: such a mass has a status, and no limit."""
    nothing = (
        "backgrounds.combinatorial.expected={pair: {at: [0.7 GeV, 0.75 GeV, 0.85 GeV, 0.9 GeV], events: [0, 1, 1, 0], "
        "per: 20 MeV, luminosity: 1 fb^-1, source: assumption}}"
    )
    _, (found,) = built(search(BESIDE, nothing), mass)
    errors = [message for message in found.built.lint if message.severity == "error"]
    assert [message.rule for message in errors] == rules
    assert errors[0].channel == "pair_sideband"
    assert "sideband.yaml" in errors[0].place


def test_much_signal_in_the_sideband_is_warned_of() -> None:
    """Catches a sideband that swallows the signal: one that begins in the middle of the peak."""
    tight = (
        "channels.pair.window=1 resolution",
        "channels.pair.sideband={window: 3 resolution, source: assumption}",
    )
    _, (found,) = built(search(BESIDE, *tight), 0.8)
    assert "signal-in-sideband" in {message.rule for message in found.built.lint}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backgrounds.combinatorial.rate=fixed", "channels.pair.sideband: found a sideband, but no background with a"),
        ("channels.pair.sideband=null", "systematics.flatness.kind: found transfer, but no channel has a sideband"),
        ("systematics.flatness.on=[signal]", "found 'signal', which no sideband measures; name the background with"),
        ("systematics.flatness.on=[combinatoric]", "found 'combinatoric', which is not a sample; did you mean"),
        ("systematics.flatness.kind=rate", "acts on nothing: the rate of 'combinatorial' is free"),
        ("channels.pair.count=false", "channels.pair.sideband: found a sideband, which is for one number of events"),
        ("channels.pair.sideband.window=8 resolution", "found 8 resolution, no more than the 8 in its middle"),
        ("channels.pair.sideband.left_out=3 resolution", "found 3 resolution, less than the window of 4"),
        ("channels.pair.sideband.range=[0.3 GeV, 1 GeV]", "found both window and range; give one of them"),
        (
            "channels.pair.sideband={range: [1 GeV, 0.3 GeV], source: assumption}",
            "channels.pair.sideband.range: found the lower end at or above",
        ),
        (
            "channels.pair.sideband={title: E_ECL, transfer: 0, source: assumption}",
            "sideband.transfer: found 0; it must be above 0",
        ),
        ("channels.pair.sideband={title: E_ECL, transfer: 0.2}", "sideband.source: missing; say where"),
        ("channels.pair.sideband={title: E_ECL, leakage: 1 %, source: assumption}", "sideband.transfer: missing"),
    ],
)
def test_messages(override: str, message: str) -> None:
    """Catches words that are taken for something else, and a reader who is left without a remedy."""
    with pytest.raises(SpecError) as error:
        search(BESIDE, override)
    assert message in str(error.value)


def test_messages_of_a_fixed_range() -> None:
    """The same where the range does not follow the mass."""
    for old, new, message in (
        ("range: [0.5 GeV, 1 GeV]", "range: [0.75 GeV, 1 GeV]", "does not reach beyond that of the channel"),
        ("range: [0.5 GeV, 1 GeV]", "window: 20 resolution", "the channel has a fixed range, so give `range`"),
        (
            "range: [0.5 GeV, 1 GeV]",
            "title: x, transfer: {polynomial: [0.1, 0.1], of: m_S}",
            "found a function of the mass; a fixed range has one number of events",
        ),
    ):
        with pytest.raises(SpecError) as error:
            search(BESIDE, FIXED[0].replace(old, new), FIXED[1])
        assert message in str(error.value)


def test_summary_says_it() -> None:
    """Catches a sideband that `show` keeps to itself."""
    text = "\n".join(summary_lines(search()))
    assert "sideband" in text
