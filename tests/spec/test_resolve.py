"""From files to one spec: overrides, variants, references, origins, and the digest of it all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelbuilder.errors import InputFileError, SpecError
from modelbuilder.spec.emit import to_yaml
from modelbuilder.spec.load import default_root, load_experiment, load_search, origins, resolve
from modelbuilder.spec.search import AsimovData
from modelbuilder.spec.tree import load_tree, plain

ALP = Path("specs/belle2/alp_gammagamma_2018.yaml")
Edit = Callable[[str, str, str], None]


def write(path: str, text: str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def refusal(path: Path, *overrides: str, root: Path | None = None) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_search(path, overrides=overrides, root=root)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return str(caught.value).splitlines()


# --- overrides


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("luminosity.value=50 fb^-1", ("luminosity", "value"), 50.0),
        ("grid.m_a.segments[0].to=5 GeV", ("grid", "m_a", "segments", 0, "to"), 5.0),
        ("grid.m_a.segments.0.to=5 GeV", ("grid", "m_a", "segments", 0, "to"), 5.0),
        ("selection[3].between=[0.5, 1.5]", ("selection", 3, "between"), (0.5, 1.5)),
        ("seed=7", ("seed",), 7),
        ("notes=null", ("notes",), None),
        ("notes=", ("notes",), None),
        ("title=a = b", ("title",), "a = b"),
        ("experiment.beams.crossing_angle=10 mrad", ("experiment", "beams", "crossing_angle"), 0.01),
        ("experiment.photons.acceptance[1].low=40 deg", ("experiment", "photons", "acceptance", 1, "low"), 0.6981317),
        ("selection[1].where=null", ("selection", 1, "where"), None),
    ],
)
def test_override(specs: Path, override: str, path: tuple[str | int, ...], value: object) -> None:
    """Catches a path that leads elsewhere, a new or removed key that is not, and a file that cannot be changed into."""
    part: object = load_search(specs, overrides=[override]).spec
    for step in path:
        part = part[step] if isinstance(part, dict | list | tuple) else getattr(part, str(step))  # type: ignore[index]
    assert part == (pytest.approx(value) if isinstance(value, float) else value)


def test_overrides_replace_whole_parts(specs: Path) -> None:
    """Catches an override by a mapping that is merged: the seed of the pseudo-data would stay, and be refused."""
    assert load_search(specs, overrides=["data={kind: asimov}"]).spec.data == AsimovData(kind="asimov")


def test_overrides_apply_one_after_the_other(specs: Path) -> None:
    """Catches an override that does not see, or does not beat, the one before it."""
    search = load_search(specs, overrides=["systematics.x={kind: rate, size: 1 %, on: [signal]}",
                                           "systematics.x.source=assumption", "seed=3", "seed=4"])  # fmt: skip
    assert search.spec.seed == 4
    assert "x" in search.spec.systematics


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("luminosty.value=1 fb^-1", "there is no 'luminosty' in the spec; did you mean 'luminosity'?"),
        ("luminosity.valeu.x=1", "there is no 'valeu' in luminosity; did you mean 'value'?"),
        ("selection[9].above=1", "there is no 9 in selection, a list of 4; items are counted from 0"),
        ("selection.x=1", "there is no 'x' in selection, a list of 4; items are counted from 0"),
        ("seed.x=1", "there is no 'x' in seed, which is 1"),
        ("selection[999999999999999999999].x=1", ("there is no '999999999999999999999' in selection, a list of 4; "
         "items are counted from 0")),
        ("selection[²].x=1", "there is no '²' in selection, a list of 4; items are counted from 0"),
        ("seed", "not understood; write PATH=VALUE, as in luminosity.value='50 fb^-1'"),
        ("=1", "not understood; write PATH=VALUE, as in luminosity.value='50 fb^-1'"),
        ("a..b=1", "not understood; write PATH=VALUE, as in luminosity.value='50 fb^-1'"),
        ("seed=[1", "not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ("seed=.inf", "found .inf; a number must be finite"),
        ("seed=!!int 5", "found the tag !!int; tags are not allowed, write plain values"),
        ("luminosity.value=5 GeV", ("luminosity.value: found '5 GeV': 'GeV' is not the unit of an integrated luminosity; "
         "expected for example '445 pb^-1'")),
        ("sead=5", "sead: unknown key 'sead'; did you mean 'seed'?"),
        ("luminosity=null", None),
    ],
)  # fmt: skip
def test_bad_override(specs: Path, override: str, message: str | None) -> None:
    """Catches a slip in an override that passes for nothing, or whose message does not name the override."""
    found = refusal(specs, override)
    if message is None:  # a required key that is taken away is missing where it was
        assert found == [
            f"{ALP}:3:1: luminosity: missing; expected the integrated luminosity and its relative uncertainty"
        ]
    else:
        assert found == [f"--set {override}: {message}"]


def test_bad_overrides_are_reported_together(specs: Path) -> None:
    """Catches an override that stops at its first fault and hides the others, and those of the files."""
    found = refusal(specs, "seed=[1", "x.y=2", "luminosity.value=5")
    assert [line.split(":")[0] for line in found] == ["--set luminosity.value=5", "--set seed=[1", "--set x.y=2"]


# --- variants


def test_variant_merges_mappings_and_replaces_the_rest(specs: Path) -> None:
    """Catches lists that are joined, mappings that are replaced, and a null that does not remove."""
    variant = write(
        "specs/belle2/v.yaml",
        "extends: alp_gammagamma_2018.yaml\nname: projection\nluminosity: {value: 50 ab^-1, source: assumption}\npapers: []\nnotes: null\n"
        "selection: [{quantity: energy(gamma), above: 1 GeV, source: assumption}]\nsystematics: {peaking_rate: null}\n",
    )
    base, changed = load_search(specs).spec, load_search(variant).spec
    assert (changed.name, changed.luminosity.value, changed.papers, changed.notes) == ("projection", 50_000.0, [], None)
    assert changed.luminosity.uncertainty == base.luminosity.uncertainty
    assert len(changed.selection) == 1
    assert set(base.systematics) - set(changed.systematics) == {"peaking_rate"}
    assert changed.channels == base.channels


def test_paths_are_relative_to_the_file_in_which_they_stand(specs: Path) -> None:
    """Catches a variant in another folder that looks for the tables of its base beside itself."""
    variant = write("specs/studies/deep/v.yaml", "extends: ../../belle2/alp_gammagamma_2018.yaml\nseed: 5\n")
    again = write("specs/w.yaml", "extends: studies/deep/v.yaml\nluminosity: {uncertainty: 1 %, source: assumption}\n")
    search = load_search(again)
    assert search.spec.seed == 5
    assert search.points == load_search(variant).points == load_search(specs).points


def test_variant_may_change_values_of_the_experiment(specs: Path) -> None:
    """Catches changes to the experiment that replace all of it, where the base only names its file."""
    change = "{beams: {crossing_angle: 22 mrad, source: assumption}}"
    variant = write("specs/v.yaml", f"extends: belle2/alp_gammagamma_2018.yaml\nexperiment: {change}\n")
    search = load_search(variant)
    assert search.spec.experiment.beams.crossing_angle == 0.022
    assert search.spec.experiment.beams.electron_energy == 7.004
    assert str(search.place_of("experiment", "beams", "crossing_angle")) == "specs/v.yaml:2"
    assert str(search.place_of("experiment", "beams", "electron_energy")) == "specs/experiments/belle2.yaml:8"


def test_variant_of_an_experiment(specs: Path) -> None:
    """Catches `extends` that only searches understand."""
    change = "{positron_energy: 4 GeV, source: assumption}"
    path = write("specs/experiments/v.yaml", f"extends: belle2.yaml\ntitle: Belle III\nbeams: {change}\n")
    experiment = load_experiment(path)
    assert (experiment.title, experiment.beams.positron_energy, experiment.name) == ("Belle III", 4.0, "belle2")


def test_faults_of_a_variant_stand_in_their_own_file(specs: Path, edit: Edit) -> None:
    """Catches a fault of the base that is blamed on the variant, or the reverse."""
    edit("A", "445 pb^-1", "445 GeV")
    variant = write("specs/v.yaml", "extends: belle2/alp_gammagamma_2018.yaml\n\nseed: x\nsignal: {evnts: 5}\n")
    assert [line.split(": ")[0] for line in refusal(variant)] == [
        f"{ALP}:11:14",
        "specs/v.yaml:3:1",
        "specs/v.yaml:4:10",
    ]


def test_a_base_that_cannot_be_read_is_one_fault(specs: Path) -> None:
    """Catches the keys of the base being called missing as well."""
    write("specs/base.yaml", "a: [1\n")
    variant = write("specs/v.yaml", "extends: base.yaml\nseed: 5\n")
    (line,) = refusal(variant)
    assert line.startswith("specs/base.yaml:2:1: extends: not valid YAML")
    (line,) = refusal(write("specs/w.yaml", "extends: none.yaml\nseed: 5\n"))
    assert (
        line
        == f"specs/w.yaml:1:10: extends: found 'none.yaml': no such file; it is looked up from {Path('specs').absolute()}"
    )


# --- origins


def test_origins_after_merging(specs: Path) -> None:
    """Catches an origin that is lost where values of four sources meet."""
    variant = write(
        "specs/v.yaml", "extends: belle2/alp_gammagamma_2018.yaml\nluminosity:\n  value: 1 ab^-1\n  source: derived\n"
    )
    found = origins(load_search(variant, overrides=["seed=5", "experiment.title=B"]).tree)
    csv = "specs/belle2/data/alp_gammagamma_resolution.csv"
    expected = {
        "luminosity.value": "specs/v.yaml:3",
        "luminosity.uncertainty": f"{ALP}:11",
        "seed": "--set seed=5",
        "experiment.title": "--set experiment.title=B",
        "experiment.beams.crossing_angle": "specs/experiments/belle2.yaml:10",
        "channels.diphoton.resolution.table.m_a[0]": f"{csv}:6",
        "channels.diphoton.resolution.table.value[1]": f"{csv}:7",
        "selection[1].above": f"{ALP}:33",
    }
    assert {path: found[path] for path in expected} == expected


def test_place_of_what_is_not_there(specs: Path) -> None:
    """Catches a default value for which a message has no place."""
    search = load_search(specs)
    assert str(search.place_of("signal", "efficiency", "interpolation")) == f"{ALP}:20"
    assert str(search.place_of("signal", "nonsense", 3)) == f"{ALP}:17"


# --- digest


def digest(path: Path, *overrides: str) -> str:
    return load_search(path, overrides=overrides).digest


def test_digest_is_that_of_the_json_versions(specs: Path) -> None:
    """Catches a digest that knows the format of the file, and a spec that means another thing in JSON."""
    raw = write("specs/belle2/raw.json", json.dumps(plain(load_tree(specs).root), indent="\t"))
    resolved = plain(resolve(specs)[0])
    written = write("specs/elsewhere/resolved.json", json.dumps(resolved))
    assert digest(specs) == digest(raw) == digest(written)
    assert load_search(raw).spec == load_search(specs).spec


def test_digest_is_that_of_the_resolved_spec(specs: Path) -> None:
    """Catches a resolved spec, as it is kept with a run, that does not ask for the same thing when it is read again."""
    tree, _ = resolve(specs, overrides=["seed=5"])
    assert digest(write("alone/specs/r.yaml", to_yaml(tree, origin=True))) == digest(specs, "seed=5") != digest(specs)


def test_digest_does_not_see_the_form(specs: Path) -> None:
    """Catches a run that does not go on because of a comment, the order of the keys, or a way to write the same."""
    parts = specs.read_text(encoding="utf-8").split("\n\n")
    text = "\n\n# remark\n".join([parts[0], *reversed(parts[1:])])
    assert digest(write("specs/belle2/again.yaml", text)) == digest(specs)
    extended = write("specs/v.yaml", "$schema: x\nextends: belle2/alp_gammagamma_2018.yaml\n")
    assert digest(extended) == digest(specs)


@pytest.mark.parametrize(
    ("letter", "old", "new"),
    [
        ("A", "445 pb^-1", "446 pb^-1"),
        ("A", "seed: 2018", "seed: 2019"),
        ("A", "value: 5}", "value: 4}"),
        ("A", "[0.88, 1.03]", "[0.88, 1.04]"),
        ("A", "[profile-likelihood, cls]", "[cls, profile-likelihood]"),
        ("E", "2.375 MeV", "2.376 MeV"),
        ("C", "\n0.2,0.675,0.356,4.33,4.52,0.003842,9.6,", "\n0.2,0.675,0.356,4.33,4.52,0.003842,9.7,"),
    ],
)
def test_digest_sees_every_number(specs: Path, edit: Edit, letter: str, old: str, new: str) -> None:
    """Catches a change in the search, the experiment or a table after which old results would be taken for new."""
    before = digest(specs)
    edit(letter, old, new)
    assert digest(specs) != before


def test_digest_does_not_see_columns_that_are_not_used(specs: Path, edit: Edit) -> None:
    """Golden: what counts is the table as the search uses it, not the bytes of the file."""
    before = digest(specs)
    edit("C", "\n0.2,0.675,", "\n0.2,0.676,")
    assert digest(specs) == before


# --- the tree that references must stay within


def test_root_can_be_widened(specs: Path) -> None:
    """Catches a --root that is not used, in either direction."""
    Path("specs/experiments/belle2.yaml").rename("belle2.yaml")
    overrides = ["experiment=belle2.yaml"]  # relative to the working directory, where it is written
    assert "lies outside of" in refusal(specs, *overrides)[0]
    assert load_search(specs, overrides=overrides, root=Path()).spec.experiment.name == "belle2"
    assert any("lies outside of" in line for line in refusal(specs, *overrides, root=Path("specs/belle2")))


def test_default_root(tmp_path: Path) -> None:
    """Catches a spec that stands alone and may read all that lies around it."""
    alone = tmp_path / "a" / "b" / "x.yaml"
    assert default_root(alone) == alone.parent
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pyproject.toml").touch()
    assert default_root(alone) == tmp_path / "a"
    assert default_root(tmp_path / "specs" / "c" / "x.yaml") == tmp_path / "specs"


def test_missing_search_is_an_input_error(specs: Path) -> None:
    """Catches a missing file that is reported as a fault in a spec."""
    with pytest.raises(InputFileError, match=r"^specs/none\.yaml: no such file$"):
        load_search("specs/none.yaml")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            "luminosity: {value: 50 fb^-1}",
            (
                "specs/belle2/v.yaml:2:14: luminosity.value: the number changes, but its source would stay "
                "'read: arXiv:2007.13071, abstract (445 +- 3 pb^-1)'; give `source:` beside it"
            ),
        ),
        (
            "signal: {efficiency: {table: {value: [0.5, 0.6]}}}",
            "specs/belle2/v.yaml:2:31: signal.efficiency.table.value: the number changes, but its source would stay ",
        ),
        (
            "systematics: {peaking_rates: null}",
            (
                "specs/belle2/v.yaml:2:15: systematics.peaking_rates: there is no 'peaking_rates' to remove; "
                "did you mean 'peaking_rate'?"
            ),
        ),
    ],
)
def test_variant_cannot_mislead(specs: Path, change: str, line: str) -> None:
    """Catches an assumed number under the source of a published one, and a removal that removes nothing."""
    variant = write("specs/belle2/v.yaml", f"extends: alp_gammagamma_2018.yaml\n{change}\n")
    (found,) = refusal(variant)
    assert found.startswith(line)


def test_variant_may_change_what_is_no_number(specs: Path) -> None:
    """Catches a demand for a source where only names change."""
    change = "systematics: {peaking_rate: {on: [pi0, eta]}}"
    assert load_search(write("specs/belle2/v.yaml", f"extends: alp_gammagamma_2018.yaml\n{change}\n"))


def test_override_of_a_number_is_an_assumption(specs: Path) -> None:
    """Catches a number from the command line that goes on under the source of the one it replaces."""
    spec = load_search(specs, overrides=["luminosity.value=50 fb^-1", "selection.1.above=0.8 GeV"]).spec
    assert spec.luminosity.source == "assumption: --set luminosity.value=50 fb^-1"
    assert spec.selection[1].source == "assumption: --set selection.1.above=0.8 GeV"
    assert spec.selection[2].source == load_search(specs).spec.selection[2].source
    own = load_search(specs, overrides=["luminosity.value=50 fb^-1", "luminosity.source=derived"]).spec
    assert own.luminosity.source == "derived"
