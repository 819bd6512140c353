"""What the lint finds, and what it leaves alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelbuilder.histograms.templates import SampleTemplates, Template
from modelbuilder.workspace.lint import LintMessage, lint

from .conftest import ETA, MASSES, Point

Points = Callable[..., Point]
Json = dict[str, Any]


def sample(name: str, *values: float, free: str | None = None, **shapes: tuple[list[float], list[float]]) -> Json:
    """A sample with a free rate of this name, and with histosys given as (up, down)."""
    modifiers: list[Json] = [] if free is None else [{"name": free, "type": "normfactor", "data": None}]
    for key, (up, down) in shapes.items():
        modifiers.append({"name": key, "type": "histosys", "data": {"hi_data": up, "lo_data": down}})
    return {"name": name, "data": list(values), "modifiers": modifiers}


def workspace(*samples: Json) -> Json:
    return {"channels": [{"name": "SR", "samples": list(samples)}]}


SIGNAL = sample("signal", 0.0, 2.0, 1.0, free="mu")
BACKGROUND = sample("background", 50.0, 40.0, 30.0, free="rate")


def found(*samples: Json) -> list[tuple[str, str, str, int | None]]:
    return [(m.severity, m.rule, m.sample, m.bin) for m in lint(workspace(*samples))]


def test_a_good_workspace_has_no_findings() -> None:
    """Catches a rule that fires on everything."""
    assert found(SIGNAL, BACKGROUND, sample("other", 5.0, 5.0, 5.0, scale=([6.0, 5.0, 4.0], [4.0, 5.0, 6.0]))) == []


def test_duplicate_names() -> None:
    """Catches two samples of one name, of which pyhf would silently keep one."""
    assert found(SIGNAL, BACKGROUND, sample("background", 1.0, 1.0, 1.0)) == [
        ("error", "duplicate-name", "background", None)
    ]


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (1e-12, 0.0, 0.0)])
def test_signal_outside_of_all_bins(values: tuple[float, ...]) -> None:
    """Catches a signal without events, on which a fit would only fail in less clear words."""
    assert found(sample("signal", *values, free="mu"), BACKGROUND) == [("error", "signal-outside", "signal", None)]


def test_no_background_under_the_signal() -> None:
    """Catches a bin in which one observed event would make the background-only hypothesis impossible."""
    background = sample("background", 0.0, 0.0, 30.0, free="rate")
    assert found(SIGNAL, background) == [("warning", "empty-background", "signal", 1)]


@pytest.mark.parametrize("which", [0, 1])
def test_bins_that_can_become_negative(which: int) -> None:
    """Catches a shape variation of which only one side is looked at; five standard deviations are pyhf's bound."""
    strong, weak = [50.0, 40.0, 30.0 - 6.1], [50.0, 40.0, 30.0 - 5.9]
    other = [50.0, 40.0, 32.0]
    signal = sample("signal", 0.0, 2.0, 0.0, free="mu")
    for values, expected in ((strong, [("warning", "not-positive", "all", 2)]), (weak, [])):
        pair = (values, other) if which else (other, values)
        assert found(signal, sample("background", 50.0, 40.0, 30.0, free="rate", shape=pair)) == expected


def test_variations_of_several_samples_add_up() -> None:
    """Catches samples that are looked at one by one: each leaves room, both together do not."""
    one = sample("a", 0.0, 0.0, 15.0, shape_a=([0.0, 0.0, 11.0], [0.0, 0.0, 19.0]))
    two = sample("b", 50.0, 40.0, 15.0, shape_b=([50.0, 40.0, 12.5], [50.0, 40.0, 17.5]))
    assert found(SIGNAL, one, two) == [("warning", "not-positive", "all", 2)]
    assert found(SIGNAL, sample("a", 0.0, 0.0, 15.0), two) == []


@pytest.mark.parametrize(
    ("first", "second", "fires"),
    [
        ((1.0, 2.0, 3.0), (10.0, 20.0, 30.0), True),  # one is a multiple of the other
        ((1.0, 2.0, 3.0), (3.0, 2.0, 4.0), False),
    ],
)
def test_degenerate_rates(first: tuple[float, ...], second: tuple[float, ...], fires: bool) -> None:
    """Catches free rates that no data could tell apart, whatever their sizes."""
    rules = [rule for _, rule, _, _ in found(SIGNAL, sample("a", *first, free="a"), sample("b", *second, free="b"))]
    assert rules == (["degenerate"] if fires else [])


def test_more_free_rates_than_bins() -> None:
    """Catches four free samples in three bins, which are degenerate whatever their shapes."""
    rng = np.random.default_rng(1)
    samples = [sample(name, *rng.uniform(1.0, 9.0, 3).tolist(), free=name) for name in ("mu", "b", "c", "d")]
    samples[0]["name"] = "signal"
    (message,) = lint(workspace(*samples))
    assert (message.severity, message.rule) == ("error", "degenerate")
    assert "mu, b, c, d cannot be told apart" in message.message


def test_rates_over_several_channels() -> None:
    """Catches channels that are looked at one by one: rates that are alike in one may differ in another."""
    alike = [SIGNAL, sample("a", 1.0, 2.0, 3.0, free="a"), sample("b", 2.0, 4.0, 6.0, free="b")]
    other = [sample("a", 1.0, 2.0, 3.0, free="a"), sample("b", 6.0, 4.0, 2.0, free="b")]
    both = {"channels": [{"name": "SR", "samples": alike}, {"name": "CR", "samples": other}]}
    assert [m.rule for m in lint({"channels": both["channels"][:1]})] == ["degenerate"]
    assert lint(both) == []
    same = {"channels": [{"name": "SR", "samples": alike}, {"name": "SR", "samples": other}]}
    assert [(m.severity, m.rule, m.channel) for m in lint(same)] == [("error", "duplicate-name", "SR")]


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf")])
def test_what_is_no_yield(value: float) -> None:
    """Catches a template that no Poisson likelihood can use."""
    with np.errstate(invalid="ignore"):
        first = found(SIGNAL, BACKGROUND, sample("other", 1.0, value, 1.0))[0]
    assert first == ("error", "not-a-yield", "other", 1)


def test_modifiers_that_do_nothing() -> None:
    """Catches a nuisance parameter for show, which every table of pulls would list."""
    idle = sample("other", 5.0, 5.0, 5.0, scale=([5.0, 5.0, 5.0], [5.0, 5.0, 5.0]))
    assert found(SIGNAL, BACKGROUND, idle) == [("warning", "no-effect", "other", None)]
    idle["modifiers"] = [{"name": "rate", "type": "normsys", "data": {"hi": 1.0, "lo": 1.0}}]
    assert found(SIGNAL, BACKGROUND, idle) == [("warning", "no-effect", "other", None)]


def test_messages_say_where() -> None:
    """Catches a finding without channel, sample, bin or line of the spec."""
    message = LintMessage(
        severity="warning",
        rule="empty-background",
        channel="SR",
        sample="signal",
        message="none",
        bin=3,
        place="x.yaml:7",
    )
    assert str(message) == "warning: SR/signal bin 3: none (x.yaml:7) [empty-background]"
    (other,) = lint(workspace(sample("signal", 0.0, free="mu"), sample("background", 1.0)))
    assert re.match(r"error: \w+/signal: no signal in any bin", str(other))


@pytest.mark.parametrize("mass", MASSES)
def test_our_workspaces_are_clean(point_at: Points, mass: float) -> None:
    """Catches a workspace of our own that our own lint calls wrong, or a signal beside its window."""
    messages = point_at(mass).built.lint
    assert [str(m) for m in messages if m.severity == "error"] == []
    assert {m.rule for m in messages} <= {
        "not-positive",
        "symmetrised",
        "pruned",
        "coefficient-at-bound",
        "few-simulated-events",  # these tests simulate fewer than the spec asks for
    }
    assert all(m.place for m in messages if m.rule in {"symmetrised", "pruned", "coefficient-at-bound"})


def test_signal_at_the_edge_of_its_window(point_at: Points) -> None:
    """Catches a window that the signal is not in the middle of, as with an energy scale that is off."""
    base = point_at(ETA)
    values = base.templates.signal.nominal.values.copy()
    values[0] = 2.0 * values.max()
    signal = SampleTemplates(Template(values, np.zeros_like(values)), base.templates.signal.varied)
    found = Point(base.search, base.point, replace(base.templates, signal=signal))
    rules = {message.rule for message in found.built.lint}
    assert "signal-at-edge" in rules


def test_few_simulated_events(point_at: Points) -> None:
    """Catches a limit that is made of simulation noise: 1000 events leave the peak uncertain by more than 5 %."""
    messages = {m.rule: str(m) for m in point_at(5.5, "signal.events=1000").built.lint}
    assert "raise signal.events" in messages["few-simulated-events"]
    assert "alp_gammagamma_2018.yaml" in messages["few-simulated-events"] or "--set" in messages["few-simulated-events"]


def test_a_coefficient_at_its_bound_is_mentioned(point_at: Points) -> None:
    """Catches a polynomial that starts at its bound without a word: 0 events in a falling corner."""
    base = point_at(3.0)
    spectrum = np.linspace(0.0, 2.0, len(base.templates.observation)) ** 4
    backgrounds = {**base.templates.backgrounds, "three_photon": SampleTemplates(Template(spectrum, spectrum))}
    built = Point(base.search, base.point, replace(base.templates, backgrounds=backgrounds)).built
    assert any(m.rule == "coefficient-at-bound" and m.sample == "three_photon_bernstein_0" for m in built.lint)
