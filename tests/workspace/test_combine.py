"""Channels of several searches in one workspace: names, likelihoods, and what is shared."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyhf
import pytest

from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.diagnostics import fit_with_uncertainties
from modelbuilder.spec.combination import CombinationSpec
from modelbuilder.workspace.build import POI, ChannelModel, Json, build_channel, normsys, workspace_of
from modelbuilder.workspace.combine import combine

from .conftest import Point

Points = Callable[..., Point]
STRENGTH = {"name": POI, "inits": [1.0], "bounds": [[0.0, 20.0]]}


@pytest.fixture
def spec(point_at: Points) -> Callable[..., CombinationSpec]:
    """Two searches with the names of our systematics; the second has twice the uncertainty of the luminosity."""

    def make(*separate: str) -> CombinationSpec:
        one = point_at(3.0).search.spec
        other = one.model_copy(update={"luminosity": one.luminosity.model_copy(update={"uncertainty": 0.0134})})
        return CombinationSpec.model_construct(searches={"one": one, "two": other}, separate=list(separate))

    return make


def counting(signal: float, background: float, *modifiers: Json) -> ChannelModel:
    """One bin; the modifiers act on the background."""
    mu = {"name": POI, "type": "normfactor", "data": None}
    return ChannelModel(
        name="bin",
        samples=[
            {"name": "signal", "data": [signal], "modifiers": [mu]},
            {"name": "background", "data": [background], "modifiers": list(modifiers)},
        ],
        observation=[background],
        parameters=[STRENGTH],
        signal_yield=signal,
        background_yield=background,
        notes=(),
    )


def test_names(spec: Callable[..., CombinationSpec]) -> None:
    """By hand: catches a parameter that is shared and should not be, or the reverse, and a size of the other search."""
    free = {"name": "b_rate", "type": "normfactor", "data": None}
    lumi = {"name": "lumi", "type": "lumi", "data": None}
    spurious = {"name": "background_shape", "type": "histosys", "data": {"hi_data": [11.0], "lo_data": [9.0]}}
    error = {"name": "staterror_bin", "type": "staterror", "data": [0.5]}
    rate = {"name": "b_rate", "inits": [1.0], "bounds": [[0.0, 10.0]]}
    made = {}
    for name, size in (("one", 0.1), ("two", 0.2)):
        channel = counting(
            5.0, 10.0, free, lumi, spurious, error, normsys("peaking_rate", size), normsys("selection_efficiency", size)
        )
        channel.parameters.append(rate)
        made[name] = channel
    found = combine(spec("selection_efficiency"), made, "m_a_3")
    channels = {channel["name"]: channel["samples"] for channel in found.workspace["channels"]}
    modifiers = {name: samples[1]["modifiers"] for name, samples in channels.items()}
    assert list(channels) == ["one_bin", "two_bin"]
    for name, size, luminosity in (("one", 0.1, 0.0067), ("two", 0.2, 0.0134)):
        assert modifiers[f"{name}_bin"] == [
            {**free, "name": f"{name}_b_rate"},
            normsys("lumi_belle2", luminosity),
            {**spurious, "name": f"{name}_background_shape"},
            {**error, "name": f"staterror_{name}_bin"},
            normsys("peaking_rate", size),
            normsys(f"{name}_selection_efficiency", size),
        ]
    config = found.workspace["measurements"][0]["config"]
    assert config == {
        "poi": POI,
        "parameters": [STRENGTH, {**rate, "name": "one_b_rate"}, {**rate, "name": "two_b_rate"}],
    }
    assert found.background_yield == 20.0
    separate = combine(spec("lumi"), made, "m_a_3").workspace["channels"][1]["samples"][1]["modifiers"]
    assert normsys("two_lumi_belle2", 0.0134) in separate
    pyhf.schema.validate(json.loads(json.dumps(found.workspace, allow_nan=False)), "workspace.json")


@pytest.mark.parametrize(
    ("separate", "factor"), [((), 2.0), (("peaking_rate",), math.sqrt(2.0))], ids=["shared", "separate"]
)
def test_shared_and_separate_in_closed_form(
    separate: tuple[str, ...], factor: float, spec: Callable[..., CombinationSpec]
) -> None:
    """Closed form: the sum of two equal bins has the variance 2 b + (f b size)^2, f = 2 if their background moves
    together, sqrt(2) if not; the signal strength is the sum over 2 s.
    """
    s, b, size = 1000.0, 1e6, 1e-3
    channels = {name: counting(s, b, normsys("peaking_rate", size)) for name in ("one", "two")}
    for channel in channels.values():
        channel.observation[:] = [b + s]  # away from the bound at mu = 0
    fit = fit_with_uncertainties(CompiledLikelihood(combine(spec(*separate), channels, "m").workspace))
    assert fit.uncertainties is not None
    expected = math.sqrt(2.0 * (b + s) + (factor * b * size) ** 2) / (2.0 * s)
    assert fit.uncertainties[fit.parameter_names.index(POI)] == pytest.approx(expected, rel=2e-3)


def member(point: Point, reference: float) -> tuple[ChannelModel, Any, list[float]]:
    """The channel of a search, its model in pyhf without the luminosity, and its data."""
    channel = build_channel(point.search, point.point, point.templates, reference)
    workspace = pyhf.Workspace(copy.deepcopy(workspace_of([channel], channel.parameters, "alone")))
    model = workspace.model()
    return channel, model, list(workspace.data(model))


def test_the_likelihood_is_the_product(point_at: Points) -> None:
    """Reference (pyhf): catches a channel that is changed on its way, and a constraint that is counted twice or not at all.

    The luminosity, which has another modifier in a combination, is left out.
    """
    no_luminosity = "systematics.lumi=null"
    first, second = point_at(3.0, no_luminosity), point_at(3.0, no_luminosity, "luminosity.value=5 fb^-1")
    spec = CombinationSpec.model_construct(
        searches={"one": first.search.spec, "two": second.search.spec}, separate=["selection_efficiency"]
    )
    members = {"one": member(first, 20.0), "two": member(second, 50.0)}
    found = combine(spec, {name: channel for name, (channel, _, _) in members.items()}, "m_a_3")
    workspace = pyhf.Workspace(copy.deepcopy(found.workspace))
    model = workspace.model()
    data = workspace.data(model)
    shared = {"mu", "mass_resolution", "photon_energy_scale", "peaking_rate"}
    dice = np.random.default_rng(1)
    for _ in range(5):
        values = {name: float(dice.normal(0.0, 0.7)) for name in model.config.par_order}
        values |= {name: float(dice.uniform(0.5, 2.0)) for name in values if name == "mu" or "bernstein" in name}
        together = float(model.logpdf([values[name] for name in model.config.par_order], data).item())
        product, constraints = 0.0, {}
        for name, (_, alone, own_data) in members.items():
            renamed = {par: par if par in shared else f"{name}_{par}" for par in alone.config.par_order}
            point = [values[renamed[par]] for par in alone.config.par_order]
            n = alone.config.nmaindata
            product += float(alone.mainlogpdf(np.array(own_data[:n]), np.array(point)).item())
            for par in alone.config.par_order:
                if alone.config.param_set(par).constrained:
                    constraints[renamed[par]] = -0.5 * values[renamed[par]] ** 2 - 0.5 * math.log(2.0 * math.pi)
        assert "one_selection_efficiency" in constraints
        assert "two_background_shape" in constraints
        assert together == pytest.approx(product + sum(constraints.values()), rel=1e-11)


def test_lint_is_that_of_all_channels(spec: Callable[..., CombinationSpec]) -> None:
    """Catches a signal that is missing in one search and stops a fit that the other one makes possible."""
    found = combine(spec(), {"one": counting(0.0, 10.0), "two": counting(5.0, 10.0)}, "m")
    assert [message for message in found.lint if message.severity == "error"] == []
    nothing = combine(spec(), {"one": counting(0.0, 10.0), "two": counting(0.0, 10.0)}, "m")
    assert [message.rule for message in nothing.lint if message.severity == "error"] == ["signal-outside"]
