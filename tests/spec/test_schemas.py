"""The schemas in `schemas/`: current, valid, and of one mind with the tool where a schema can know."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from modelbuilder.spec.check_file import check_file
from modelbuilder.spec.load import resolve
from modelbuilder.spec.schema import differences, schema_text, schemas
from modelbuilder.spec.tree import load_tree, plain

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").rglob("*.yaml"))
ALP = ROOT / "specs/belle2/alp_gammagamma_2018.yaml"
EXPERIMENT = ROOT / "specs/experiments/belle2.yaml"


def schema_of(path: Path) -> Path:
    """The schema that the first line of a spec names."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    mark, _, target = first.partition("$schema=")
    assert mark == "# yaml-language-server: "
    return path.parent / target


def faults(instance: object, schema: Path) -> list[str]:
    validator = Draft7Validator(json.loads(schema.read_text(encoding="utf-8")))
    return [error.message for error in validator.iter_errors(instance)]


@pytest.mark.parametrize("name", sorted(schemas()))
def test_committed_schema_is_current(name: str) -> None:
    """Catches a model that was changed without its schema: `modelbuilder schema -o schemas` writes it again."""
    assert (ROOT / "schemas" / name).read_text(encoding="utf-8") == schema_text(schemas()[name])


def test_there_is_no_other_schema() -> None:
    """Catches a schema that no model stands behind any more."""
    assert sorted(path.name for path in (ROOT / "schemas").iterdir()) == sorted(schemas())


@pytest.mark.parametrize("name", sorted(schemas()))
def test_schema_is_valid_draft_07(name: str) -> None:
    """Catches keywords of later drafts, which editors pass over in silence."""
    schema = schemas()[name]
    Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    text = schema_text(schema)
    assert [word for word in ("$defs", "prefixItems", '"discriminator"', "oneOf") if word in text] == []


def test_differences_are_found(tmp_path: Path) -> None:
    """Catches a comparison that finds nothing, missing files above all."""
    assert differences(ROOT / "schemas") == []
    (tmp_path / "search.schema.json").write_text("{}", encoding="utf-8")
    assert differences(tmp_path) == [
        f"{tmp_path}/search.schema.json: differs from the models; write it again with `modelbuilder schema -o {tmp_path}`",
        f"{tmp_path}/combination.schema.json: missing",
        f"{tmp_path}/experiment.schema.json: missing",
    ]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_first_line_names_the_schema(path: Path) -> None:
    """Catches a spec that no editor helps with, or whose path to the schema leads nowhere."""
    kind = str(plain(resolve(path)[0])["schema"]).split("/")[0]
    assert schema_of(path).resolve() == ROOT / "schemas" / f"{kind}.schema.json"
    assert schema_of(path).is_file()


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_our_specs_validate(path: Path, tmp_path: Path) -> None:
    """Catches a schema that refuses what the tool accepts, in YAML, in JSON, or as it is kept with a run."""
    raw = plain(load_tree(path).root)
    written = tmp_path / "x.json"
    written.write_text(json.dumps({"$schema": "x", **raw}), encoding="utf-8")
    resolved = plain(resolve(path)[0])
    for instance in (raw, plain(load_tree(written).root), resolved):
        assert faults(instance, schema_of(path)) == []


Change = Callable[[Any], object]


def put(*path: str | int, value: object) -> Change:
    """A change that puts a value at a path; None takes the key away."""

    def change(tree: Any) -> None:
        for step in path[:-1]:
            tree = tree[step]
        if value is None:
            del tree[path[-1]]
        else:
            tree[path[-1]] = value

    return change


SEGMENT = ("grid", "m_a", "segments", 0)


@pytest.mark.parametrize(
    "change",
    [
        put("lumnosity", value={}),
        put("signal", "evnts", value=1000),
        put("channels", "diphoton", "windoww", value="1 resolution"),
        put(*SEGMENT, "from_", value="1 GeV"),
        put("luminosity", value=None),
        put("luminosity", "source", value=None),
        put("schema", value=None),
        put("backgrounds", "eta", "efficiency", "source", value=None),
        put("schema", value="search/2"),
        put("luminosity", "value", value=445),
        put("luminosity", "value", value="445"),
        put("luminosity", "source", value="published"),
        put("luminosity", value="445 pb^-1"),
        put("channels", "diphoton", "window", value=20),
        put("channels", "diphoton", "resolution", value=0.1),
        put(*SEGMENT, "step", value=0.5),
        put("selection", 0, "between", value=["1 deg"]),
        put("selection", 0, "between", value=["1 deg", "2 deg", "3 deg"]),
        put("selection", 0, "quantity", value="thetta(gamma)"),
        put("selection", value={}),
        put("signal", "process", value="Y(4S) -> B+ B-"),
        put("signal", "events", value="many"),
        put("signal", "events", value=2000.5),
        put("signal", "events", value=10),
        put("seed", value=-1),
        put("seed", value=True),
        put("systematics", "lumi", "kind", value="luminousity"),
        put("systematics", "lumi", "kind", value=None),
        put("systematics", "peaking_rate", "on", value=[]),
        put("statistics", "methods", value=["clz"]),
        put("statistics", "methods", value=[]),
        put("backgrounds", "eta", "shape", value="simulate"),
        put("backgrounds", value=None),
        put("grid", value={}),
        put("data", value={"kind": "asimov", "seed": 5}),
        put("title", value=5),
    ],
)
def test_schema_refuses_what_the_tool_refuses(change: Change, tmp_path: Path) -> None:
    """Catches a structural fault that only the tool sees, and one that only the schema sees."""
    tree = copy.deepcopy(plain(resolve(ALP)[0]))
    written = tmp_path / "x.json"
    written.write_text(json.dumps(tree), encoding="utf-8")
    assert (faults(tree, schema_of(ALP)), check_file(written).problems) == ([], ())
    change(tree)
    written.write_text(json.dumps(tree), encoding="utf-8")
    assert faults(tree, schema_of(ALP)) != []
    assert check_file(written).problems != ()


@pytest.mark.parametrize(
    "variant",
    [
        {"extends": "x.yaml"},
        {"extends": "x.yaml", "luminosity": {"value": "50 ab^-1"}},
        {"extends": "x.yaml", "systematics": {"peaking_rate": None, "lumi": {"kind": "luminosity"}}, "notes": None},
        {"extends": "x.yaml", "channels": {"recoil": {"window": "10 resolution"}}},
        {"extends": "x.yaml", "experiment": {"beams": {"crossing_angle": "22 mrad"}}},
        {"extends": "x.yaml", "grid": {"m_a": {"segments": [{"values": ["1 GeV"], "source": "assumption"}]}}},
    ],
)
def test_variants_validate(variant: object) -> None:
    """Catches an editor that marks a sound variant as incomplete."""
    assert faults(variant, schema_of(ALP)) == []


@pytest.mark.parametrize(
    "variant",
    [
        {"extends": "x.yaml", "lumnosity": {}},
        {"extends": "x.yaml", "luminosity": {"valeu": "50 ab^-1"}},
        {"extends": "x.yaml", "luminosity": {"value": 50}},
        {"extends": 5},
        {"luminosity": {"value": "50 ab^-1"}},
    ],
)
def test_variants_are_checked(variant: object) -> None:
    """Catches a schema that lets everything pass once a file says `extends`."""
    assert faults(variant, schema_of(ALP)) != []


COMBINATION = ROOT / "schemas" / "combination.schema.json"


def combined(**changes: object) -> dict[str, Any]:
    """A combination of our search and a variant of it, with other values at the top."""
    return {
        "schema": "combination/1",
        "name": "both",
        "title": "two searches",
        "searches": {
            "one": "alp_gammagamma_2018.yaml",
            "two": {"extends": "alp_gammagamma_2018.yaml", "luminosity": {"value": "1 fb^-1", "source": "assumption"}},
        },
        "parameter": "g_agammagamma_per_gev",
        "grid": {"m_a": {"segments": [{"values": ["1 GeV"], "source": "assumption"}]}},
        "statistics": {"methods": ["cls"], "confidence_level": "95 %", "source": "assumption"},
        "data": {"kind": "asimov"},
        **changes,
    }


def test_combinations_validate(tmp_path: Path) -> None:
    """Catches a schema that refuses a combination as it is written, as it is kept with a run, or a variant of one."""
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    path = tmp_path / "specs" / "belle2" / "both.json"
    path.write_text(json.dumps(combined()), encoding="utf-8")
    assert check_file(path).problems == ()
    resolved = plain(resolve(path)[0])
    for instance in (
        combined(),
        resolved,
        {"extends": "both.json", "searches": {"one": None, "two": {"signal": {"events": 1000}}, "three": "x.yaml"}},
    ):
        assert faults(instance, COMBINATION) == []


@pytest.mark.parametrize(
    "wrong",
    [
        combined(schema="search/1"),
        combined(searches={}),
        combined(searches={"one": {"extends": "x.yaml", "luminosty": {}}}),
        combined(searches={"one": {"luminosity": {"value": "1 fb^-1", "source": "assumption"}}}),
        combined(searches={"one": 5}),
        combined(separate="lumi"),
        combined(luminosity={"value": "1 fb^-1", "source": "assumption"}),
        combined(data={"kind": "observed", "files": {}}),
    ],
)
def test_wrong_combinations_are_marked(wrong: dict[str, Any], tmp_path: Path) -> None:
    """Catches a structural fault that only the tool sees, and one that only the schema sees."""
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    path = tmp_path / "specs" / "belle2" / "both.json"
    path.write_text(json.dumps(wrong), encoding="utf-8")
    assert faults(wrong, COMBINATION) != []
    assert check_file(path).problems != ()


def test_variant_of_an_experiment_validates() -> None:
    """Catches variants that only the schema of searches knows."""
    assert faults({"extends": "x.yaml", "beams": {"crossing_angle": "22 mrad"}}, schema_of(EXPERIMENT)) == []
    assert faults({"beams": {"crossing_angle": "22 mrad"}}, schema_of(EXPERIMENT)) != []
