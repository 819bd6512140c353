"""Every message of the spec language, word for word: an edit to a sound spec, and what `validate` then prints.

A: the search, E: its experiment file, C: its table; HERE: the folder that `specs` lies in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelbuilder.spec.check_file import check_file

Edit = Callable[[str, str, str], None]
Problems = Callable[[], list[str]]

ALIAS_BOMB = "seed: 1\nx0: &x0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"x{level}: &x{level} [{','.join([f'*x{level - 1}'] * 10)}]\n" for level in range(1, 7)
)
CASES: list[tuple[str, str, str, str, list[str]]] = [
    (
        "unknown key",
        "A",
        "luminosity: {value: 445",
        "lumnosity: {value: 445",
        ["A:11:1: lumnosity: unknown key 'lumnosity'; did you mean 'luminosity'?"],
    ),
    (
        "wrong unit",
        "A",
        "445 pb^-1",
        "445 pbb^-1",
        [
            "A:11:14: luminosity.value: found '445 pbb^-1': the unit 'pbb^-1' is not known; expected an integrated luminosity, such as '445 pb^-1'"
        ],
    ),
    (
        "no unit",
        "A",
        "445 pb^-1",
        "445",
        ["A:11:14: luminosity.value: found 445 without a unit; expected an integrated luminosity, such as '445 pb^-1'"],
    ),
    (
        "wrong dimension",
        "A",
        "445 pb^-1",
        "445 GeV",
        [
            "A:11:14: luminosity.value: found '445 GeV': 'GeV' is not the unit of an integrated luminosity; expected for example '445 pb^-1'"
        ],
    ),
    (
        "missing file",
        "A",
        "../experiments/belle2.yaml",
        "../experiments/belle3.yaml",
        [
            "A:10:13: experiment: found '../experiments/belle3.yaml': no such file; it is looked up from HERE/specs/belle2"
        ],
    ),
    (
        "missing csv",
        "A",
        "csv: data/alp_gammagamma_resolution.csv",
        "csv: data/none.csv",
        [
            "A:49:12: channels.diphoton.resolution.csv: found 'data/none.csv': no such file; it is looked up from HERE/specs/belle2"
        ],
    ),
    (
        "unknown CSV column",
        "A",
        "value: sigma_Mgg_MeV",
        "value: sigma_Mgg",
        [
            "A:50:36: channels.diphoton.resolution.columns.value: found 'sigma_Mgg'; alp_gammagamma_resolution.csv has the columns m_GeV, acc_recoil_barrel, acc_3gamma, min_opening_deg_CM, median_opening_deg_lab, sigma_M2gg_GeV2, sigma_Mgg_MeV, sigma_M2rec_GeV2, sigma_Mrec_MeV"
        ],
    ),
    (
        "outside of the tree",
        "A",
        "../experiments/belle2.yaml",
        "../../../etc/passwd",
        [
            "A:10:13: experiment: found '../../../etc/passwd', which lies outside of HERE/specs; move it there, or allow more with --root"
        ],
    ),
    (
        "duplicate key",
        "A",
        "seed: 1\n",
        "seed: 1\nseed: 2\n",
        ["A:14:1: seed: the key stands twice; it was first given on line 13"],
    ),
    ("nan", "A", "seed: 1\n", "seed: .nan\n", ["A:13:7: seed: found .nan; a number must be finite"]),
    (
        "NaN in a quantity",
        "A",
        "445 pb^-1",
        "nan pb^-1",
        ["A:11:14: luminosity.value: found 'nan pb^-1'; expected an integrated luminosity, such as '445 pb^-1'"],
    ),
    (
        "empty segment",
        "A",
        "from: 0.2 GeV, to: 9.7 GeV",
        "from: 9.7 GeV, to: 0.2 GeV",
        [
            "A:26:9: grid.m_a.segments[0]: found a segment from 9.7 GeV to 0.2 GeV, which is empty; `to` must be above `from`"
        ],
    ),
    (
        "overlap",
        "A",
        "      - {from: 0.2 GeV, to: 9.7",
        "      - {from: 0.2 GeV, to: 5 GeV, step: 0.1 GeV, source: assumption}\n      - {from: 4.9 GeV, to: 9.7",
        [
            "A:27:9: grid.m_a.segments[1]: found a segment from 4.9 GeV, but the one before it ends at 5 GeV; segments must not overlap"
        ],
    ),
    (
        "efficiency above 1",
        "A",
        "value: [0.60, 0.93]",
        "value: [0.60, 1.2]",
        ["A:20:52: signal.efficiency.table.value[1]: found 1.2; it must be at most 1 (100 %)"],
    ),
    (
        "table length",
        "A",
        "value: [0.60, 0.93]",
        "value: [0.60]",
        [
            "A:20:5: signal.efficiency.table: found lists of different lengths, 2 of m_a and 1 of value; each mass needs one value"
        ],
    ),
    (
        "table range",
        "A",
        "m_a: [0.2 GeV, 9.7 GeV]",
        "m_a: [0.3 GeV, 9.7 GeV]",
        [
            "A:19:3: signal.efficiency: m_a = 0.2 GeV lies outside of the table (0.3 to 9.7 GeV); add points, or say `outside: nearest`"
        ],
    ),
    (
        "unknown sample",
        "A",
        "on: [pi0, eta, eta_prime], source",
        "on: [pi0, etha, eta_prime], source",
        ["A:131:52: systematics.peaking_rate.on[1]: found 'etha', which is not a sample; did you mean 'eta'?"],
    ),
    (
        "spurious signal of nothing",
        "A",
        "of: three_photon",
        "of: threephoton",
        [
            "A:134:5: systematics.background_shape.of: found 'threephoton', which is not a background; did you mean 'three_photon'?"
        ],
    ),
    (
        "systematic on a free rate",
        "A",
        "on: [pi0, eta, eta_prime], source",
        "on: [pi0, three_photon], source",
        [
            "A:131:52: systematics.peaking_rate.on[1]: acts on nothing: rate and shape of 'three_photon' are free; remove it from the list"
        ],
    ),
    (
        "bad source label",
        "A",
        'source: "review: one-sided',
        'source: "published: one-sided',
        [
            "A:140:3: statistics.source: found 'published: one-sided profile likelihood at 95 % CL; CLs in addition'; a source begins with one of read, review, derived, recalled, assumption, then ': ' and the reference"
        ],
    ),
    (
        "missing source",
        "A",
        ', source: "read: arXiv:2007.13071, abstract (445 +- 3 pb^-1)"',
        "",
        [
            "A:11:1: luminosity.source: missing; expected where the number comes from: read, review, derived, recalled or assumption, then the reference"
        ],
    ),
    (
        "bad condition",
        "A",
        "where: m_a < 6.85 GeV",
        "where: m_a <> 6.85 GeV",
        [
            "A:47:5: channels.diphoton.where: found 'm_a <> 6.85 GeV'; a condition reads like 'm_a <= 4 GeV' or '0.2 GeV <= m_a < 0.5 GeV'"
        ],
    ),
    (
        "condition without unit",
        "A",
        "where: m_a < 6.85 GeV",
        "where: m_a < 6.85",
        [
            "A:47:5: channels.diphoton.where: found 'm_a < 6.85': found '6.85' without a unit; expected an energy, such as '0.2 GeV'"
        ],
    ),
    (
        "unknown variable",
        "A",
        "where: m_a < 6.85 GeV",
        "where: m_b < 6.85 GeV",
        ["A:47:5: channels.diphoton.where: found the variable 'm_b'; did you mean 'm_a'?"],
    ),
    (
        "channels with a hole",
        "A",
        "where: m_a < 6.85 GeV",
        "where: m_a < 6.5 GeV",
        ["A:44:1: channels: found no channel at m_a = 6.50223 GeV; exactly one must hold at each grid point"],
    ),
    (
        "overlapping channels",
        "A",
        "where: m_a < 6.85 GeV",
        "where: m_a < 7 GeV",
        [
            "A:59:5: channels.recoil.where: found the channels diphoton and recoil at m_a = 6.88306 GeV; exactly one must hold at each grid point"
        ],
    ),
    (
        "method",
        "A",
        "methods: [profile-likelihood, cls]",
        "methods: [profile-likelihood, clz]",
        [
            "A:138:33: statistics.methods[1]: found 'clz'; expected 'profile-likelihood', 'cls', 'feldman-cousins' or 'bayesian'; did you mean 'cls'?"
        ],
    ),
    (
        "kind",
        "A",
        "kind: luminosity",
        "kind: luminousity",
        [
            "A:110:10: systematics.lumi.kind: found 'luminousity'; expected 'luminosity', 'produced', 'rate', 'shape', 'spurious-signal' or 'transfer'; did you mean 'luminosity'?"
        ],
    ),
    (
        "process",
        "A",
        "process: e+ e- -> gamma a, a -> gamma gamma",
        "process: e+ e- -> gamma b, b -> gamma gamma",
        [
            "A:24:3: grid.m_a: found 'm_a'; the mass of the signal process is named 'm_b'",
        ],
    ),
    (
        "grid misnamed",
        "A",
        "  m_a:\n    segments",
        "  m_b:\n    segments",
        ["A:24:3: grid.m_b: found 'm_b'; the mass of the signal process is named 'm_a'"],
    ),
    (
        "mass above sqrt(s)",
        "A",
        "to: 9.7 GeV, step",
        "to: 11 GeV, step",
        [
            "A:19:3: signal.efficiency: m_a = 9.7017 GeV lies outside of the table (0.2 to 9.7 GeV); add points, or say `outside: nearest`",
            "A:24:3: grid.m_a: found a grid point at 10.5867 GeV; it must lie below the collision energy, 10.58 GeV",
        ],
    ),
    (
        "reversed bounds",
        "A",
        "between: [0.88, 1.03]",
        "between: [1.03, 0.88]",
        ["A:41:5: selection[3].between: found the lower end at or above the upper end; write [low, high]"],
    ),
    (
        "order not whole",
        "A",
        "where: m_a >= 6.85 GeV, value: 5}",
        "where: m_a >= 6.85 GeV, value: 5.5}",
        [
            "A:77:7: backgrounds.three_photon.shape.bernstein: found the order 5.5 at 6.8831 GeV; expected a whole number from 0 to 8"
        ],
    ),
    (
        "pieces with a hole",
        "A",
        "{where: m_a <= 4 GeV, value: 8 %}",
        "{where: m_a <= 3 GeV, value: 8 %}",
        [
            "A:113:5: systematics.selection_efficiency.size: none of the pieces holds at m_a = 3.0064 GeV; exactly one must"
        ],
    ),
    (
        "missing cross section",
        "A",
        '    cross_section: {value: 4 fb, source: "assumption: of the size of gamma eta, times 98.8 %"}\n',
        "",
        [
            "A:84:3: backgrounds.pi0.cross_section: missing; this process does not bring one of its own, so give `cross_section: {value: ..., source: ...}`"
        ],
    ),
    (
        "tag",
        "A",
        'title: "e+',
        'title: !!python/object:os.system "e+',
        ["A:5:8: title: found the tag !!python/object:os.system; tags are not allowed, write plain values"],
    ),
    (
        "exp key",
        "E",
        "crossing_angle: 83 mrad",
        "crossing_angel: 83 mrad",
        ["E:10:3: experiment.beams.crossing_angel: unknown key 'crossing_angel'; did you mean 'crossing_angle'?"],
    ),
    (
        "exp angle",
        "E",
        "crossing_angle: 83 mrad",
        "crossing_angle: 83 MeV",
        [
            "E:10:3: experiment.beams.crossing_angle: found '83 MeV': 'MeV' is not the unit of an angle; expected for example '83 mrad'"
        ],
    ),
    (
        "syntax",
        "A",
        "papers: [arXiv",
        "papers: [[arXiv",
        [
            "A:7:1: not valid YAML: while parsing a flow sequence that begins on line 6, expected ',' or ']', but got '<scalar>'"
        ],
    ),
    ("tab", "A", "seed: 1\n", "seed:\t1\n\tx: 1\n", ["A:13:6: not valid YAML: found a tab; indent with blanks"]),
    (
        "type",
        "A",
        "events: 200000\n  eff",
        "events: many\n  eff",
        ["A:18:3: signal.events: found 'many'; expected a whole number"],
    ),
    (
        "list",
        "A",
        "selection:\n",
        "selection: 3\nselectio:\n",
        [
            "A:28:1: selection: found 3; expected a list",
            "A:29:1: selectio: unknown key 'selectio'; did you mean 'selection'?",
        ],
    ),
    (
        "merge",
        "A",
        "seed: 1\n",
        "seed: 1\n<<: {a: 1}\n",
        ["A:14:1: found the merge key <<; use `extends:` for a variant of a spec"],
    ),
    (
        "alias bomb",
        "A",
        "seed: 1\n",
        ALIAS_BOMB,
        ["A:18:38: x4[7]: more than 100000 values, aliases expanded; move tables into CSV files and refer to them"],
    ),
    ("too deep", "A", "seed: 1\n", "seed: " + 40 * "[" + 40 * "]" + "\n", ["A:13:38: nested deeper than 32 levels"]),
    (
        "extends itself",
        "A",
        "schema: search/1",
        "extends: alp_gammagamma_2018.yaml\nschema: search/1",
        [
            "A:3:10: extends: found a cycle: alp_gammagamma_2018.yaml -> alp_gammagamma_2018.yaml; a spec cannot extend itself"
        ],
    ),
    ("schema", "A", "schema: search/1", "schema: search/2", ["A:3:1: schema: found 'search/2'; expected 'search/1'"]),
    (
        "form unknown key table",
        "A",
        "value: [0.60, 0.93]}",
        "value: [0.60, 0.93]}\n    interpolatio: linear",
        ["A:21:5: signal.efficiency.interpolatio: unknown key 'interpolatio'; did you mean 'interpolation'?"],
    ),
    (
        "form misspelt table",
        "A",
        "    table: {m_a",
        "    tabel: {m_a",
        [
            "A:19:3: signal.efficiency: found a mapping; expected a value with its unit, or a mapping with one of the keys value, table, polynomial, csv, pieces; did you mean 'table'?"
        ],
    ),
    (
        "poly missing of",
        "A",
        "size: 10 %",
        "size: {polynomial: [0.1]}",
        ["A:122:5: systematics.photon_energy_resolution.size.of: missing; expected the grid variable"],
    ),
    (
        "poly text",
        "A",
        "size: 10 %",
        "size: {polynomial: ['0.1', true], of: m_a}",
        [
            "A:122:25: systematics.photon_energy_resolution.size.polynomial[0]: found '0.1'; expected a number",
            "A:122:32: systematics.photon_energy_resolution.size.polynomial[1]: found true; expected a number",
        ],
    ),
    (
        "poly var",
        "A",
        "size: 10 %",
        "size: {polynomial: [0.1], of: m_q}",
        ["A:122:5: systematics.photon_energy_resolution.size: found the variable 'm_q'; did you mean 'm_a'?"],
    ),
    (
        "poly neg",
        "A",
        "size: 10 %",
        "size: {polynomial: [0.1, -0.05], of: m_a}",
        [
            "A:122:5: systematics.photon_energy_resolution.size: found -0.00028 at m_a = 2.0056 GeV; it must be at least 0"
        ],
    ),
    (
        "listed unknown",
        "A",
        "{from: 0.2 GeV, to: 9.7 GeV, step: 0.5 resolution, source",
        "{values: [1 GeV], sorce",
        ["A:26:27: grid.m_a.segments[0].sorce: unknown key 'sorce'; did you mean 'source'?"],
    ),
    (
        "from_",
        "A",
        "{from: 0.2 GeV",
        "{from_: 0.2 GeV",
        ["A:26:10: grid.m_a.segments[0].from_: unknown key 'from_'; did you mean 'from'?"],
    ),
    (
        "csv no units",
        "A",
        "      units: {m_a: GeV, value: MeV}\n",
        "",
        ["A:48:5: channels.diphoton.resolution.units: missing; expected the unit of each"],
    ),
    (
        "csv unit missing",
        "A",
        "units: {m_a: GeV, value: MeV}",
        "units: {m_a: GeV}",
        ["A:51:14: channels.diphoton.resolution.units: no unit for 'value'; give one, as in {value: GeV}"],
    ),
    (
        "csv var",
        "A",
        "columns: {m_a: m_GeV, value: sigma_Mgg_MeV}\n      units: {m_a: GeV",
        "columns: {m_b: m_GeV, value: sigma_Mgg_MeV}\n      units: {m_b: GeV",
        ["A:48:5: channels.diphoton.resolution: found the variable 'm_b'; did you mean 'm_a'?"],
    ),
    (
        "csv unit",
        "A",
        "value: MeV}",
        "value: mm}",
        [
            "C:6:1: channels.diphoton.resolution.table.value[0]: found '9.5 mm': 'mm' is not the unit of an energy; expected for example '0.2 GeV'"
        ],
    ),
    (
        "csv novalue",
        "A",
        "columns: {m_a: m_GeV, value: sigma_Mgg_MeV}",
        "columns: {m_a: m_GeV}",
        [
            "A:49:7: channels.diphoton.resolution.table: found the lists m_a; expected one or two named after grid variables and one named `value`"
        ],
    ),
    (
        "csv cell",
        "C",
        "\n0.2,",
        "\n0.2x,",
        [
            "C:7:1: channels.diphoton.resolution.table.m_a[1]: found '0.2x GeV': the unit 'x GeV' is not known; expected an energy, such as '0.2 GeV'"
        ],
    ),
    (
        "csv row",
        "C",
        "\n0.2,",
        "\n0.2,7,",
        ["C:7:1: channels.diphoton.resolution.csv: found 10 cells; the header names 9 columns"],
    ),
    (
        "csv quote",
        "C",
        "\n0.2,",
        '\n"0.2,',
        ["C:7:1: channels.diphoton.resolution.csv: found 1 cell; the header names 9 columns"],
    ),
    (
        "csv dup",
        "C",
        "acc_3gamma,min_",
        "acc_3gamma,acc_3gamma,min_",
        ["C:5:1: channels.diphoton.resolution.csv: found two columns of the same name"],
    ),
    (
        "bern cond var",
        "A",
        "where: 0.5 GeV < m_a < 6.85 GeV",
        "where: 0.5 GeV < m_b < 6.85 GeV",
        ["A:77:7: backgrounds.three_photon.shape.bernstein: found the variable 'm_b'; did you mean 'm_a'?"],
    ),
    (
        "shape",
        "A",
        "    shape: simulated\n",
        "    shape: simulate\n",
        ["A:90:5: backgrounds.pi0.shape: found 'simulate'; expected 'simulated'"],
    ),
    (
        "shape bern",
        "A",
        "      bernstein:\n",
        "      bernstien:\n",
        ["A:77:7: backgrounds.three_photon.shape.bernstien: unknown key 'bernstien'; did you mean 'bernstein'?"],
    ),
    (
        "no kind",
        "A",
        "{kind: luminosity}",
        "{}",
        [
            "A:110:3: systematics.lumi.kind: missing; expected 'luminosity', 'produced', 'rate', 'shape', 'spurious-signal' or 'transfer'"
        ],
    ),
    (
        "no method",
        "A",
        "methods: [profile-likelihood, cls]",
        "methods: []",
        ["A:138:3: statistics.methods: found 0 items; expected at least 1"],
    ),
    (
        "method list",
        "A",
        "methods: [profile-likelihood, cls]",
        "methods: cls",
        ["A:138:3: statistics.methods: found 'cls'; expected a list"],
    ),
    (
        "twice",
        "A",
        "methods: [profile-likelihood, cls]",
        "methods: [cls, cls]",
        ["A:138:3: statistics.methods: found a method twice; name each once"],
    ),
    (
        "toys",
        "A",
        "methods: [profile-likelihood, cls]",
        "methods: [cls]\n  toys: {number: 10, use: sometimes}",
        [
            "A:139:10: statistics.toys.number: found 10; it must be at least 100",
            "A:139:22: statistics.toys.use: found 'sometimes'; expected 'always' or 'where-doubtful'",
        ],
    ),
    (
        "prior",
        "A",
        "methods: [profile-likelihood, cls]",
        "methods: [bayesian]\n  prior: jeffreys",
        ["A:139:3: statistics.prior: found 'jeffreys'; expected 'flat' or 'inverse-sqrt'"],
    ),
    (
        "cl",
        "A",
        "confidence_level: 95 %",
        "confidence_level: 95",
        ["A:139:3: statistics.confidence_level: found 95; it must be at most 1 (100 %)"],
    ),
    (
        "cl2",
        "A",
        "confidence_level: 95 %",
        "confidence_level: 5 %",
        ["A:139:3: statistics.confidence_level: found 0.05; a confidence level lies between 50 % and 100 %"],
    ),
    (
        "pair1",
        "A",
        "between: [0.88, 1.03]",
        "between: [0.88]",
        ["A:41:5: selection[3].between: found 1 item; expected 2"],
    ),
    (
        "pair3",
        "A",
        "between: [0.88, 1.03]",
        "between: [0.88, 1, 2]",
        ["A:41:5: selection[3].between: found 3 items; expected at most 2"],
    ),
    (
        "pair0",
        "A",
        "between: [0.88, 1.03]",
        "between: 0.88",
        ["A:41:5: selection[3].between: found 0.88; expected a list"],
    ),
    (
        "events few",
        "A",
        "events: 200000\n  eff",
        "events: 10\n  eff",
        ["A:18:3: signal.events: found 10; it must be at least 1000"],
    ),
    (
        "events frac",
        "A",
        "events: 200000\n  eff",
        "events: 2000.5\n  eff",
        ["A:18:3: signal.events: found 2000.5; expected a whole number"],
    ),
    ("events true", "A", "seed: 1\n", "seed: true\n", ["A:13:1: seed: found true; expected a whole number"]),
    ("seed text", "A", "seed: 1\n", "seed: '1'\n", ["A:13:1: seed: found '1'; expected a whole number"]),
    ("neg seed", "A", "seed: 1\n", "seed: -1\n", ["A:13:1: seed: found -1; it must be at least 0"]),
    (
        "big seed",
        "A",
        "seed: 1\n",
        "seed: 1" + "0" * 30 + "\n",
        ["A:13:1: seed: found 1000000000000000000000000000000; it must be below 9223372036854775808"],
    ),
    (
        "exp nan",
        "E",
        "crossing_angle: 83 mrad",
        "crossing_angle: .nan",
        ["E:10:19: experiment.beams.crossing_angle: found .nan; a number must be finite"],
    ),
    (
        "exp dup",
        "E",
        "crossing_angle: 83 mrad",
        "crossing_angle: 83 mrad\n  crossing_angle: 84 mrad",
        ["E:11:3: experiment.beams.crossing_angle: the key stands twice; it was first given on line 10"],
    ),
    (
        "exp syntax",
        "E",
        "crossing_angle: 83 mrad",
        "crossing_angle: [83 mrad",
        [
            "E:11:3: experiment: not valid YAML: while parsing a flow sequence that begins on line 10, expected ',' or ']', but got '<scalar>'"
        ],
    ),
    (
        "chan name",
        "A",
        "  diphoton:",
        "  di-photon:",
        [
            "A:45:3: channels.di-photon: found 'di-photon'; a name has letters, digits and underscores, begins with a letter, 40 at most"
        ],
    ),
    (
        "two axes",
        "A",
        "grid:\n",
        "grid:\n  m_b: {segments: [{values: [1 GeV], source: assumption}]}\n",
        ["A:24:3: grid.m_b: found 'm_b'; the mass of the signal process is named 'm_a'"],
    ),
    (
        "step tiny",
        "A",
        "step: 0.5 resolution",
        "step: 1e-320 GeV",
        ["A:26:9: grid.m_a.segments[0]: found a step that gives more than 100000 points; take a larger one"],
    ),
    (
        "step tiny2",
        "A",
        "step: 0.5 resolution",
        "step: 0.000001 resolution",
        ["A:26:9: grid.m_a.segments[0]: found a step that gives more than 100000 points; take a larger one"],
    ),
    (
        "step dup",
        "A",
        "step: 0.5 resolution",
        "step: 0.03 MeV",
        ["A:26:9: grid.m_a.segments[0]: found a step that gives more than 100000 points; take a larger one"],
    ),
    (
        "step unit",
        "A",
        "step: 0.5 resolution",
        "step: 0.5",
        [
            "A:26:38: grid.m_a.segments[0].step: found 0.5 without a unit; expected an energy or a number of resolutions, such as '0.5 resolution'"
        ],
    ),
    (
        "listed dup",
        "A",
        "{from: 0.2 GeV, to: 9.7 GeV, step: 0.5 resolution, source",
        "{values: [1 GeV, 1 GeV], source",
        ["A:26:9: grid.m_a.segments[0]: found 2 points at 1.0000 GeV; masses are rounded to 0.1 MeV, and must differ"],
    ),
    (
        "to tiny",
        "A",
        "{from: 0.2 GeV, to: 9.7 GeV, step: 0.5 resolution, source",
        "{values: [1 eV, 1 GeV], source",
        ["A:26:9: grid.m_a.segments[0]: found a mass below 0.1 MeV, to which masses are rounded"],
    ),
    (
        "eff nosource",
        "A",
        '    source: "assumption: together with the cuts, without radiation, about 20 % and 34 % at the two ends, both recalled"\n',
        "",
        ["A:16:1: signal.source: missing; say where the numbers come from, for example `source: assumption`"],
    ),
    (
        "syst nosource",
        "A",
        "on: [pi0, eta, eta_prime], source: assumption",
        "on: [pi0, eta, eta_prime]",
        [
            "A:131:3: systematics.peaking_rate.source: missing; say where the numbers come from, for example `source: assumption`"
        ],
    ),
    (
        "nul path",
        "A",
        "../experiments/belle2.yaml",
        '"a\\0b"',
        ["A:10:13: experiment: found 'a\\x00b', which cannot be the path of a file"],
    ),
    (
        "long path",
        "A",
        "../experiments/belle2.yaml",
        "a" * 5000,
        [
            "A:10:13: experiment: found 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..., which cannot be the path of a file"
        ],
    ),
    (
        "dir path",
        "A",
        "../experiments/belle2.yaml",
        "../experiments",
        ["A:10:13: experiment: found '../experiments', which is a folder; expected a file"],
    ),
    (
        "experiment num",
        "A",
        "../experiments/belle2.yaml",
        "5",
        ["A:10:13: experiment: found 5; expected the path of a file, relative to this one"],
    ),
    (
        "exp = alp",
        "A",
        "../experiments/belle2.yaml",
        "alp_gammagamma_2018.yaml",
        ["A:3:1: experiment.schema: found 'search/1'; expected 'experiment/1'"],
    ),
    (
        "null lumi",
        "A",
        "luminosity: {value",
        "luminosity:\nnotes2: {value",
        [
            "A:11:1: luminosity: found nothing; expected a mapping of keys to values",
            "A:12:1: notes2: unknown key 'notes2'; did you mean 'notes'?",
        ],
    ),
    (
        "rate bern",
        "A",
        "rate: free",
        "rate: fixed",
        ["A:83:5: backgrounds.three_photon.rate: a Bernstein shape has free coefficients; write `rate: free`"],
    ),
    (
        "own xs",
        "A",
        "    rate: free",
        "    cross_section: {value: 1 fb, source: assumption}\n    rate: free",
        [
            "A:83:5: backgrounds.three_photon.cross_section: this process brings its own cross section at lowest order; remove the key"
        ],
    ),
    (
        "spurious of simulated",
        "A",
        "of: three_photon",
        "of: eta",
        [
            "A:134:5: systematics.background_shape.of: found 'eta', whose shape is the simulated one; it needs a free shape"
        ],
    ),
    (
        "alias undefined",
        "A",
        "seed: 1\n",
        "seed: *x\n",
        ["A:13:7: seed: the alias *x stands before its anchor, or within it"],
    ),
    (
        "key list",
        "A",
        "seed: 1\n",
        "seed: 1\n? [a]\n: 1\n",
        ["A:14:3: found a list or a mapping as a key; a key is a word"],
    ),
    ("second doc", "A", "seed: 1\n", "seed: 1\n---\na: 1\n", ["A:14:1: found a second document; a file holds one"]),
    (
        "nul char",
        "A",
        "seed: 1\n",
        "seed: 1\nx: \x00\n",
        ["A:14:4: found the character U+0000, which a text file does not have"],
    ),
    (
        "gap",
        "A",
        "    segments:\n",
        "    gaps: [{low: 2 GeV, high: 1 GeV, source: assumption}]\n    segments:\n",
        ["A:25:12: grid.m_a.gaps[0]: found a gap from 2 GeV to 1 GeV; `high` must be above `low`"],
    ),
    (
        "gap all",
        "A",
        "    segments:\n",
        "    gaps: [{low: 0 GeV, high: 10 GeV, source: assumption}]\n    segments:\n",
        ["A:25:5: grid.m_a.gaps: the gaps leave no grid points; shorten them, or widen the segments"],
    ),
    (
        "bad name",
        "A",
        "name: belle2-alp",
        "name: a/b/belle2-alp",
        [
            "A:4:1: name: found 'a/b/belle2-alp-gammagamma-2018'; use letters, digits, '-', '_' and '.', so that it can name a file"
        ],
    ),
    (
        "source braces",
        "A",
        "source: assumption}",
        "source: 'x {at} {reason}'}",
        [
            "A:131:69: systematics.peaking_rate.source: found 'x {at} {reason}'; a source begins with one of read, review, derived, recalled, assumption, then ': ' and the reference"
        ],
    ),
    (
        "no schema",
        "A",
        "schema: search/1\n",
        "",
        ["A:3:1: schema: missing; expected the version of this format: search/1"],
    ),
    (
        "colon",
        "A",
        'title: "e+ e- -> gamma a, a -> gamma gamma"',
        "title: a: b",
        ["A:5:9: not valid YAML: mapping values are not allowed here"],
    ),
    (
        "log neg",
        "A",
        "value: [0.60, 0.93]}",
        "value: [0.0, 0.93]}\n    interpolation: logarithmic",
        [
            "A:20:46: signal.efficiency.table.value[0]: found the value 0; logarithmic interpolation needs values above 0"
        ],
    ),
    (
        "masses fall",
        "A",
        "m_a: [0.2 GeV, 9.7 GeV]",
        "m_a: [9.7 GeV, 0.2 GeV]",
        ["A:20:28: signal.efficiency.table.m_a[1]: found 0.2 GeV after 9.7 GeV; masses must rise"],
    ),
    (
        "table keys",
        "A",
        "table: {m_a",
        "table: {m_a: [1 GeV], m_x",
        [
            "A:20:5: signal.efficiency.table: found lists of different lengths, 1 of m_a and 2 of m_x and 2 of value; each mass needs one value"
        ],
    ),
    (
        "three",
        "A",
        "445 pb^-1, uncertainty: 0.67 %",
        "445 pb, uncertainty: 0.67 cm",
        [
            "A:11:14: luminosity.value: found '445 pb': 'pb' is not the unit of an integrated luminosity; expected for example '445 pb^-1'",
            "A:11:29: luminosity.uncertainty: found '0.67 cm': 'cm' is not the unit of a number without unit; expected for example '0.85, or 85 %'",
        ],
    ),
]


@pytest.mark.parametrize(("letter", "old", "new", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_message(edit: Edit, problems: Problems, letter: str, old: str, new: str, expected: list[str]) -> None:
    """Catches a message, a place or a path that changes, a fault that is said twice, and one that is no longer found."""
    edit(letter, old, new)
    assert problems() == expected


def test_the_frozen_search_is_sound(problems: Problems) -> None:
    """Invariant: catches a change of the language that the copy has not followed: every case above would stumble on it."""
    assert problems() == []


def test_all_faults_at_once_in_the_order_of_the_file(edit: Edit, problems: Problems) -> None:
    """Catches a check that stops at the first fault, faults that hide one another, and an order that jumps about."""
    edit("A", "445 pb^-1", "445 GeV")
    edit("A", "value: [0.60, 0.93]", "value: [0.60, 1.2]")
    edit("A", "seed: 1\n", "seed: 1\nseed: 2\n")
    edit("A", "on: [pi0, eta, eta_prime], source", "on: [pi0, etha, eta_prime], source")
    edit("A", "kind: luminosity", "kind: luminousity")
    edit("A", "confidence_level: 95 %", "confidence_levle: 95 %")
    edit("E", "crossing_angle: 83 mrad", "crossing_angle: 83 MeV")
    edit("E", "minimum_energy: 50 MeV", "minimum_energy: .nan")
    assert problems() == [
        (
            "A:11:14: luminosity.value: found '445 GeV': 'GeV' is not the unit of an integrated luminosity; "
            "expected for example '445 pb^-1'"
        ),
        "A:14:1: seed: the key stands twice; it was first given on line 13",
        "A:21:52: signal.efficiency.table.value[1]: found 1.2; it must be at most 1 (100 %)",
        (
            "A:111:10: systematics.lumi.kind: found 'luminousity'; expected 'luminosity', 'produced', 'rate', 'shape', "
            "'spurious-signal' or 'transfer'; did you mean 'luminosity'?"
        ),
        "A:140:3: statistics.confidence_levle: unknown key 'confidence_levle'; did you mean 'confidence_level'?",
        (
            "E:10:3: experiment.beams.crossing_angle: found '83 MeV': 'MeV' is not the unit of an angle; "
            "expected for example '83 mrad'"
        ),
        "E:20:19: experiment.photons.minimum_energy: found .nan; a number must be finite",
    ]


def test_cross_checks_run_on_what_is_sound(edit: Edit, problems: Problems) -> None:
    """Catches checks between parts that wait until every other fault is mended."""
    edit("A", "445 pb^-1", "445")
    edit("A", "on: [pi0, eta, eta_prime], source", "on: [pi0, etha, eta_prime], source")
    edit("A", "{where: m_a <= 4 GeV, value: 8 %}", "{where: m_a <= 3 GeV, value: 8 %}")
    assert problems() == [
        "A:11:14: luminosity.value: found 445 without a unit; expected an integrated luminosity, such as '445 pb^-1'",
        (
            "A:113:5: systematics.selection_efficiency.size: none of the pieces holds at m_a = 3.0064 GeV; "
            "exactly one must"
        ),
        "A:131:52: systematics.peaking_rate.on[1]: found 'etha', which is not a sample; did you mean 'eta'?",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "A:1:1: found an empty file; a spec is a mapping of keys to values"),
        (b"# only a comment\n", "A:1:1: found an empty file; a spec is a mapping of keys to values"),
        (b"- a\n", "A:1:1: found a list; a spec is a mapping of keys to values"),
        (b"\n5\n", "A:2:1: found a number; a spec is a mapping of keys to values"),
        (b"null\n", "A:1:1: found null; a spec is a mapping of keys to values"),
        (b"a: \xff\xfe\x00\x80", "A: not a UTF-8 text file (byte 3)"),
        (b"a: \x00\n", "A:1:4: found the character U+0000, which a text file does not have"),
        (b"#" * 2_000_001, "A: larger than 2 MB; move tables into CSV files and refer to them"),
        (b"{{{{\n", "A:1:2: found a list or a mapping as a key; a key is a word"),
    ],
)
def test_files_that_are_no_specs(specs: Path, problems: Problems, content: bytes, expected: str) -> None:
    """Catches a traceback, or a message without a remedy, for a file that is not a spec at all."""
    specs.write_bytes(content)
    assert problems() == [expected]


def test_a_folder_and_nothing_at_all(specs: Path) -> None:
    """Catches a traceback for a path that is a folder, or does not exist."""
    assert [str(p) for p in check_file(specs.parent).problems] == ["specs/belle2: cannot be read: Is a directory"]
    assert [str(p) for p in check_file(Path("none.yaml")).problems] == ["none.yaml: no such file"]


def test_two_files_that_extend_each_other(specs: Path) -> None:
    """Catches an endless loop, and a cycle that is reported without the way round it."""
    first, second = specs.with_name("first.yaml"), specs.with_name("second.yaml")
    first.write_text("extends: second.yaml\n", encoding="utf-8")
    second.write_text("name: x\nextends: first.yaml\n", encoding="utf-8")
    assert str(check_file(first).problems[0]) == (
        "specs/belle2/second.yaml:2:10: extends: "
        "found a cycle: first.yaml -> second.yaml -> first.yaml; a spec cannot extend itself"
    )


def test_long_chains_of_variants_end(specs: Path) -> None:
    """Catches a chain of files that would exhaust the stack."""
    for number in range(20):
        Path(f"specs/v{number}.yaml").write_text(f"extends: v{number + 1}.yaml\n", encoding="utf-8")
    Path("specs/v20.yaml").write_text("name: x\n", encoding="utf-8")
    found = [str(problem) for problem in check_file(Path("specs/v0.yaml")).problems]
    assert "specs/v15.yaml:1:10: extends: found more than 16 files that extend one another" in found


def test_links_cannot_leave_the_tree(edit: Edit, problems: Problems, tmp_path: Path) -> None:
    """Catches a symbolic link within the tree that would let a spec read any file."""
    outside = tmp_path / "outside.yaml"
    outside.write_text("secret: 1\n", encoding="utf-8")
    Path("specs/link.yaml").symlink_to(outside)
    edit("A", "../experiments/belle2.yaml", "../link.yaml")
    assert problems() == [
        (
            "A:10:13: experiment: found '../link.yaml', which lies outside of HERE/specs; "
            "move it there, or allow more with --root"
        )
    ]


def test_circular_links_are_refused(edit: Edit, problems: Problems) -> None:
    """Catches the error that Python raises for a symbolic link to itself."""
    Path("specs/link.yaml").symlink_to("link.yaml")
    edit("A", "../experiments/belle2.yaml", "../link.yaml")
    (line,) = problems()
    assert line.startswith("A:10:13: experiment: found '../link.yaml'")
