"""Every fault of a workspace is one WorkspaceError that says where, what was found, and what would be right."""

from __future__ import annotations

import copy

import jsonschema
import pyhf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT6

from modelbuilder.errors import UserError, WorkspaceError
from modelbuilder.inference import PyhfLikelihood
from modelbuilder.inference.workspace_schema import is_plainly_valid


@pytest.fixture
def spec(models):
    return models.counting([5.0, 3.0], [10.0, 8.0], [9.0, 8.0], background_modifiers=[models.normsys("rate", 1.1, 0.9)])


def sample(spec, index):
    return spec["channels"][0]["samples"][index]


def message(spec, **options):
    with pytest.raises(WorkspaceError) as caught:
        PyhfLikelihood(spec, **options)
    assert isinstance(caught.value, UserError)
    return str(caught.value)


BROKEN = {
    "not a dict": (lambda s: [s], "workspace: found list; a workspace is a JSON object (a dict)"),
    "no version": (lambda s: s.pop("version"), "workspace: found no version; the key 'version' must be '1.0.0'"),
    "version": (
        lambda s: s.update(version="2.0.0"),
        "workspace: found version '2.0.0'; the key 'version' must be '1.0.0'",
    ),
    "no channels": (lambda s: s.pop("channels"), "workspace: 'channels' is a required property"),
    "extra key": (
        lambda s: s.update(comment="hi"),
        "workspace: Additional properties are not allowed ('comment' was unexpected)",
    ),
    "text for a number": (
        lambda s: sample(s, 0)["data"].__setitem__(1, "three"),
        "workspace.channels[SR].samples[signal].data[1]: 'three' is not of type 'number'",
    ),
    "nan": (
        lambda s: sample(s, 1)["data"].__setitem__(0, float("nan")),
        "workspace.channels[SR].samples[background].data[0]: found nan; every number must be finite",
    ),
    "modifier type": (
        lambda s: sample(s, 1)["modifiers"][0].update(type="lognormal"),
        (
            "workspace.channels[SR].samples[background].modifiers[rate]: found the type 'lognormal';"
            " known: histosys, lumi, normfactor, normsys, shapefactor, shapesys, staterror"
        ),
    ),
    "modifier data": (
        lambda s: sample(s, 1)["modifiers"][0]["data"].pop("lo"),
        "workspace.channels[SR].samples[background].modifiers[rate].data: 'lo' is a required property",
    ),
    "sample length": (
        lambda s: sample(s, 1)["data"].append(1.0),
        "workspace.channels[SR].samples[background].data: found 3 values; the observation of this channel has 2 bins",
    ),
    "staterror length": (
        lambda s: sample(s, 1)["modifiers"].append({"name": "mc", "type": "staterror", "data": [1.0]}),
        (
            "workspace.channels[SR].samples[background].modifiers[mc].data: found 1 values;"
            " the observation of this channel has 2 bins"
        ),
    ),
    "histosys length": (
        lambda s: sample(s, 1)["modifiers"].append(
            {"name": "h", "type": "histosys", "data": {"hi_data": [1.0, 2.0], "lo_data": [1.0]}}
        ),
        (
            "workspace.channels[SR].samples[background].modifiers[h].data.lo_data: found 1 values;"
            " the observation of this channel has 2 bins"
        ),
    ),
    "no observation": (
        lambda s: s["observations"][0].update(name="CR"),
        "workspace.channels[SR]: no observation has this name (found: CR); every channel needs its observed counts",
    ),
    "empty observations": (
        lambda s: s.update(observations=[]),
        "workspace.observations: [] should be non-empty",
    ),
    "negative count": (
        lambda s: s["observations"][0]["data"].__setitem__(1, -2.0),
        "workspace.observations[SR].data[1]: found -2.0; counts are 0 or more",
    ),
    "two samples of one name": (
        lambda s: sample(s, 1).update(name="signal"),
        "workspace.channels[SR].samples: found 'signal' twice; names must be unique",
    ),
    "one modifier twice": (
        lambda s: sample(s, 1)["modifiers"].append(sample(s, 1)["modifiers"][0]),
        "workspace.channels[SR].samples[background].modifiers: found 'normsys rate' twice; names must be unique",
    ),
    "poi empty": (
        lambda s: s["measurements"][0]["config"].update(poi=""),
        (
            "workspace.measurements[test].config.poi: empty;"
            " a limit needs a parameter of interest, one of the normfactors: mu"
        ),
    ),
    "poi unknown": (
        lambda s: s["measurements"][0]["config"].update(poi="nu"),
        "workspace.measurements[test].config.poi: found 'nu', which no sample has as a modifier; normfactors: mu",
    ),
    "poi fixed": (
        lambda s: s["measurements"][0]["config"]["parameters"][0].update(fixed=True),
        (
            "workspace.measurements[test].config.parameters[mu].fixed:"
            " the parameter of interest is fixed; a limit needs it free"
        ),
    ),
    "bounds": (
        lambda s: s["measurements"][0]["config"]["parameters"][0].update(bounds=[[10.0, 0.0]]),
        "workspace.measurements[test].config.parameters[mu].bounds: found [10.0, 0.0]; each entry is [lower, upper]",
    ),
    "parameter twice": (
        lambda s: s["measurements"][0]["config"]["parameters"].append({"name": "mu"}),
        "workspace.measurements[test].config.parameters: found 'mu' twice; names must be unique",
    ),
    "poi with several components": (
        lambda s: [
            sample(s, 0)["modifiers"].append({"name": "sf", "type": "shapefactor", "data": None}),
            s["measurements"][0]["config"].update(poi="sf"),
        ],
        (
            "workspace: measurement 'test': pyhf cannot build the model: The parameter 'sf' contains multiple components"
            " and is not currently supported as parameter of interest."
        ),
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_workspace(spec, fault):
    """Word for word. Catches pyhf's own exceptions, or jsonschema's page-long ones, reaching the user."""
    breaks, expected = BROKEN[fault]
    replaced = breaks(spec)
    assert message(replaced if fault == "not a dict" else spec) == expected


def test_unknown_measurement(spec):
    assert message(spec, measurement_name="other") == (
        "workspace.measurements: found no measurement 'other'; known: test"
    )


def test_measurement_is_chosen_by_name(spec, models):
    """Catches taking the first one always."""
    config = {"poi": "mu", "parameters": [{"name": "rate", "inits": [0.0], "fixed": True}]}
    spec["measurements"].append({"name": "second", "config": config})
    assert PyhfLikelihood(spec).parameters[1].fixed != PyhfLikelihood(spec, "second").parameters[1].fixed


def test_lumi_without_its_parameters(spec):
    """pyhf needs sigmas and auxdata for lumi and says so only while it builds."""
    sample(spec, 0)["modifiers"].append({"name": "lumi", "type": "lumi", "data": None})
    assert message(spec).startswith("workspace: measurement 'test': pyhf cannot build the model: ")


def test_wrong_number_of_initial_values(spec):
    spec["measurements"][0]["config"]["parameters"][0].update(inits=[1.0, 2.0])
    assert message(spec).startswith("workspace: ")


def test_deep_nesting_is_refused(spec):
    """Untrusted input: an error, not a RecursionError."""
    nested = []
    for _ in range(100_000):
        nested = [nested]
    spec["channels"].append(nested)
    assert "nested more than 40 levels deep" in message(spec)


def test_patches_are_applied(spec, models):
    """A patch adds the signal, as those of a published likelihood do."""
    signal = spec["channels"][0]["samples"].pop(0)
    whole = models.counting(
        [5.0, 3.0], [10.0, 8.0], [9.0, 8.0], background_modifiers=[models.normsys("rate", 1.1, 0.9)]
    )
    patch = [{"op": "add", "path": "/channels/0/samples/0", "value": signal}]
    patched = PyhfLikelihood(spec, patches=[patch])
    assert patched.fit().twice_nll == pytest.approx(PyhfLikelihood(whole).fit().twice_nll, abs=1e-12)


def test_patch_for_another_workspace(spec):
    patch = [{"op": "add", "path": "/channels/7/samples/0", "value": {}}]
    assert message(spec, patches=[patch]).startswith("patch 0: cannot be applied to the workspace: ")
    assert message(spec, patches=[[{"op": "grow"}]]).startswith("patch 0: cannot be applied to the workspace: ")


def test_tuples_and_arrays_are_read(spec, models):
    """A workspace built in memory may hold tuples and numpy arrays."""
    import numpy as np

    expected = PyhfLikelihood(spec).fit().twice_nll
    sample(spec, 0)["data"] = np.array(sample(spec, 0)["data"])
    sample(spec, 1)["data"] = tuple(sample(spec, 1)["data"])
    assert PyhfLikelihood(spec).fit().twice_nll == pytest.approx(expected, abs=1e-12)


# ----------------------------------------------------------------------------------------------- the fast check

EVERYTHING = {
    "version": "1.0.0",
    "channels": [
        {
            "name": "SR",
            "samples": [
                {
                    "name": "signal",
                    "data": [1, 2.5],
                    "modifiers": [
                        {"name": "mu", "type": "normfactor", "data": None},
                        {"name": "lumi", "type": "lumi", "data": None},
                        {"name": "rate", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}},
                        {"name": "shape", "type": "histosys", "data": {"hi_data": [1.0, 2.0], "lo_data": [1.0, 3.0]}},
                        {"name": "free", "type": "shapefactor", "data": None},
                        {"name": "poisson", "type": "shapesys", "data": [0.1, 0.2]},
                        {"name": "normal", "type": "staterror", "data": [0.1, 0.2]},
                    ],
                }
            ],
        }
    ],
    "observations": [{"name": "SR", "data": [1.0, 2.0]}],
    "measurements": [
        {
            "name": "m",
            "config": {
                "poi": "mu",
                "parameters": [
                    {"name": "mu", "inits": [1.0], "bounds": [[0.0, 10.0]], "fixed": False},
                    {"name": "lumi", "auxdata": [1.0], "sigmas": [0.1], "factors": [1.0]},
                ],
            },
        }
    ],
}


def places(value, path=()):
    yield path
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(below, (*path, key))


PLACES = list(places(EVERYTHING))
VALUES = (None, True, 0, 1.5, -1e300, 10**400, "", "lumi", "normsys", "1.0", [], [[]], [1.0], [True], {}, {"a": 1})


def by_the_schema(spec):
    definitions = pyhf.schema.load_schema("1.0.0/defs.json")
    address = definitions["$id"]
    resource = Resource.from_contents(definitions, default_specification=DRAFT6)
    registry = Registry().with_resource(address, resource)
    schema = {"$ref": f"{address}#/definitions/workspace"}
    return jsonschema.Draft6Validator(schema, registry=registry).is_valid(spec)


@given(st.lists(st.tuples(st.sampled_from(PLACES[1:]), st.sampled_from(VALUES), st.booleans()), max_size=2))
def test_what_is_plainly_valid_is_valid(changes):
    """Catches a fast check that lets through what pyhf's schema forbids; and one that has no use, as it doubts all."""
    spec = copy.deepcopy(EVERYTHING)
    for path, value, is_new in changes:
        node = spec
        try:
            for key in path[:-1]:
                node = node[key]
            node["extra" if is_new and isinstance(node, dict) else path[-1]] = value
        except (LookupError, TypeError):
            continue
    if is_plainly_valid(spec):
        assert by_the_schema(spec)
    if not changes:
        assert is_plainly_valid(spec)
        assert by_the_schema(spec)


@pytest.mark.parametrize("place", [path for path in PLACES if path], ids=str)
def test_nothing_may_be_missing_or_null_unseen(place):
    """Catches a key that the fast check takes for optional, or does not look at."""
    for change in ("missing", "null"):
        spec = copy.deepcopy(EVERYTHING)
        node = spec
        for key in place[:-1]:
            node = node[key]
        if change == "missing":
            del node[place[-1]]
        else:
            node[place[-1]] = None
        assert is_plainly_valid(spec) == by_the_schema(spec)
