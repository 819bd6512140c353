"""Likelihoods that are made together: each the same as if it were made alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from modelbuilder.errors import WorkspaceError
from modelbuilder.inference import CompiledLikelihood, compiled_upper_limit, compiled_upper_limits
from modelbuilder.inference.choice import LimitRequest, find_limit, find_limits

CLS = LimitRequest(method="cls", confidence_level=0.95)


def varied(spec, rng):
    """The same structure, with other numbers; some of them empty a cell, so that its parameters are fixed."""
    spec = copy.deepcopy(spec)
    for channel in spec["channels"]:
        for sample in channel["samples"]:
            scale = rng.uniform(0.5, 2.0)
            sample["data"] = [x * scale for x in sample["data"]]
            for modifier in sample["modifiers"]:
                if modifier["type"] == "normsys":
                    modifier["data"] = {"hi": rng.uniform(1.01, 1.6), "lo": rng.uniform(0.5, 1.3)}
                elif modifier["type"] == "histosys":
                    modifier["data"] = {key: [x * scale for x in values] for key, values in modifier["data"].items()}
                elif isinstance(modifier["data"], list):
                    modifier["data"] = [x * scale * rng.choice([0.0, 1.0, 1.0]) for x in modifier["data"]]
    spec["observations"][0]["data"] = [float(rng.poisson(x)) for x in spec["observations"][0]["data"]]
    return spec


def structures(models):
    return [
        models.binwise("staterror"),
        models.binwise("shapesys"),
        models.bump(n_bins=12),
        models.counting([5.0], [10.0], [12.0], background_modifiers=[models.normsys("rate", 1.3, 0.7)]),
        models.counting([5.0], [10.0], [12.0], background_modifiers=[models.normfactor("k")], poi_bounds=(0.0, 4.0)),
    ]


def test_together_is_as_alone_to_the_last_bit(models):
    """Invariant: catches a sum whose order depends on its neighbours, and numbers that go to another model."""
    rng = np.random.default_rng(2)
    specs = [varied(spec, rng) for _ in range(30) for spec in structures(models)]
    together = CompiledLikelihood.many(specs)
    alone = [CompiledLikelihood(spec) for spec in specs]
    for many, one in zip(together, alone, strict=True):
        for mine, other in ((many.flat, one.flat), (many._full, one._full)):
            assert mine.integers.tobytes() == other.integers.tobytes()
            assert mine.floats.tobytes() == other.floats.tobytes()
            assert mine.parameters == other.parameters
        assert many.observed_data.tobytes() == one.observed_data.tobytes()
        assert many.split().auxiliary.tobytes() == one.split().auxiliary.tobytes()
        assert many.split().local_auxiliary.tobytes() == one.split().local_auxiliary.tobytes()
        point = [parameter.init for parameter in many.parameters]
        assert many.twice_nll(point) == one.twice_nll(point)
    limits = compiled_upper_limits(together[:25], n_threads=2)
    for limit, one in zip(limits, alone, strict=False):
        assert limit == compiled_upper_limit(one)


def test_limits_together_are_those_of_the_single_route(models):
    """Invariant: catches a p-value, a best fit or a warning that another target gets, with a fallback among them."""
    likelihoods = [CompiledLikelihood(spec) for spec in structures(models)]
    together = find_limits(likelihoods, CLS)
    assert together == [find_limit(CompiledLikelihood(spec), CLS) for spec in structures(models)]


def test_faults_stay_with_their_workspace(models):
    """Catches one bad workspace that costs the others, or an error that names another one."""
    good = models.counting([5.0], [10.0], [12.0], background_modifiers=[models.normsys("rate", 1.3, 0.7)])
    bad_rate, bad_length, bad_count = (copy.deepcopy(good) for _ in range(3))
    bad_rate["channels"][0]["samples"][1]["modifiers"][0]["data"]["lo"] = 0.0
    bad_length["channels"][0]["samples"][1]["data"].append(1.0)
    bad_count["observations"][0]["data"] = [-1.0]
    first, rate, length, count, last = CompiledLikelihood.many([good, bad_rate, bad_length, bad_count, good])
    assert isinstance(first, CompiledLikelihood)
    assert isinstance(last, CompiledLikelihood)
    for found, words in ((rate, "lo 0.0; factors are above 0"), (length, "found 2 values"), (count, "found -1.0")):
        assert isinstance(found, WorkspaceError)
        assert words in str(found)


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "replace", "path": "/channels/0/samples/1/data", "value": [11.0]}],
        [{"op": "add", "path": "/channels/0/samples/-", "value": {"name": "b", "data": [1.0], "modifiers": []}}],
        [{"op": "add", "path": "/channels/0/samples/0", "value": {"name": "b", "data": [1.0], "modifiers": []}}],
        [{"op": "remove", "path": "/channels/0/samples/1/modifiers/0"}],
        [{"op": "replace", "path": "/observations/0", "value": {"name": "SR", "data": [3.0]}}],
        [{"op": "copy", "from": "/channels/0/samples/0/data", "path": "/channels/0/samples/1/data"}],
        [
            {"op": "test", "path": "/version", "value": "1.0.0"},
            {"op": "replace", "path": "/channels/0/samples/1/data/0", "value": 7.0},
        ],
    ],
    ids=["replace", "append", "insert", "remove", "replace in a list", "copy", "test"],
)
def test_patches_are_those_of_jsonpatch(models, patch):
    """Reference: jsonpatch itself; catches an operation at another place, and a workspace that a patch has changed."""
    import jsonpatch

    spec = models.counting([5.0], [10.0], [12.0], background_modifiers=[models.normsys("rate", 1.3, 0.7)])
    before = copy.deepcopy(spec)
    (found,) = CompiledLikelihood.many([spec], [[patch]])
    expected = CompiledLikelihood(jsonpatch.JsonPatch(patch).apply(spec))
    assert spec == before
    assert found.flat.floats.tobytes() == expected.flat.floats.tobytes()
    assert found.flat.integers.tobytes() == expected.flat.integers.tobytes()
    assert found.observed_data.tobytes() == expected.observed_data.tobytes()


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/channels/7/name", "value": "x"},
        {"op": "replace", "path": "/channels/-1/name", "value": "SR"},
        {"op": "remove", "path": "/nothing"},
        {"op": "add", "path": "/channels/0/samples/9", "value": {}},
        {"op": "invent", "path": "/version", "value": "1.0.0"},
    ],
)
def test_patches_that_cannot_be_applied_are_errors(models, operation):
    """Catches a patch that is skipped in silence, or an index that counts from the end."""
    (found,) = CompiledLikelihood.many([models.counting([5.0], [10.0], [12.0])], [[[operation]]])
    assert isinstance(found, WorkspaceError)
    assert "patch 0: cannot be applied" in str(found)
