"""The compiled likelihood against pyhf and against finite differences; its fits; its decisions where pyhf has none."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelbuilder.errors import FitFailure, WorkspaceError
from modelbuilder.inference import CompiledLikelihood, PyhfLikelihood

CODES = list(itertools.product(["code1", "code4"], ["code0", "code2", "code4p"]))


def shapefactor(name):
    return {"name": name, "type": "shapefactor", "data": None}


def binwise(kind, name, data):
    return {"name": name, "type": kind, "data": [float(value) for value in data]}


LUMI = {"name": "lumi", "type": "lumi", "data": None}
LUMI_CONFIG = {"name": "lumi", "auxdata": [1.0], "bounds": [[0.5, 1.5]], "inits": [1.0], "sigmas": [0.02]}


def everything(models):
    """Two channels with every type of modifier, several per-bin ones on one sample, and names shared between types."""
    nf, ns, hs = models.normfactor, models.normsys, models.histosys
    spec = models.workspace(
        {
            "signal": ([2.0, 5.0, 3.0], [nf("mu"), LUMI, ns("efficiency", 1.1, 0.8)]),
            "qcd": (
                [12.0, 9.0, 6.0],
                [
                    shapefactor("abcd"),
                    binwise("staterror", "mc", [1.5, 1.0, 0.8]),
                    hs("tilt", [13.0, 9.0, 5.0], [11.5, 9.2, 7.0]),
                    ns("tilt", 1.05, 0.97),
                    ns("rate", 1.2, 0.85),
                ],
            ),
            "top": (
                [3.0, 2.0, 1.0],
                [
                    binwise("staterror", "mc", [0.5, 0.4, 0.3]),
                    binwise("shapesys", "top_shape", [0.6, 0.5, 0.0]),
                    hs("tilt", [3.3, 2.1, 0.9], [2.8, 1.9, 1.2]),
                    hs("scale", [3.1, 2.4, 1.0], [2.9, 1.8, 0.8]),
                    nf("k"),
                ],
            ),
        },
        [24.0, 15.0, 12.0],
        parameters=[LUMI_CONFIG, {"name": "rate", "fixed": True, "inits": [0.3]}],
    )
    spec["channels"].insert(
        0,
        {
            "name": "ZCR",
            "samples": [
                {"name": "top", "data": [30.0, 20.0, 11.0], "modifiers": [nf("k"), ns("tilt", 0.9, 1.1)]},
                {
                    "name": "qcd",
                    "data": [50.0, 40.0, 30.0],
                    "modifiers": [
                        shapefactor("abcd"),
                        binwise("shapesys", "qcd_shape", [5.0, 4.0, 6.0]),
                        binwise("staterror", "mc_cr", [2.0, 3.0, 1.0]),
                    ],
                },
            ],
        },
    )
    spec["observations"].append({"name": "ZCR", "data": [78.0, 66.0, 35.0]})
    return spec


def variants(models):
    """Workspaces by name: each modifier type alone, and all of them."""
    simple = models.counting
    found = {
        "counting": simple([5.0], [10.0], [9.0]),
        "normsys": simple([5.0, 3.0], [10.0, 8.0], [9.0, 8.0], background_modifiers=[models.normsys("a", 1.3, 0.6)]),
        "histosys": simple(
            [5.0, 3.0], [10.0, 8.0], [9.0, 8.0], background_modifiers=[models.histosys("a", [12.0, 7.0], [9.5, 8.5])]
        ),
        "staterror": models.binwise("staterror"),
        "shapesys": models.binwise("shapesys"),
        "shapefactor": models.binwise("staterror"),
        "two per-bin parameters": models.binwise("shapesys"),
        "bump": models.bump(),
        "everything": everything(models),
    }
    found["shapefactor"]["channels"][0]["samples"][2]["modifiers"] = [shapefactor("free")]
    found["two per-bin parameters"]["channels"][0]["samples"][2]["modifiers"] = [
        binwise("shapesys", "other", [0.5, 0.4, 0.3])
    ]
    return found


NAMES = [
    "counting",
    "normsys",
    "histosys",
    "staterror",
    "shapesys",
    "shapefactor",
    "two per-bin parameters",
    "bump",
    "everything",
]


@pytest.fixture(params=NAMES)
def spec(request, models):
    return variants(models)[request.param]


def pyhf_model(spec, normsys="code4", histosys="code4p"):
    """pyhf's model and the observed data."""
    import pyhf

    config = spec["measurements"][0]["config"]
    model = pyhf.Model(
        {"channels": spec["channels"], "parameters": config["parameters"]},
        poi_name=config["poi"],
        validate=False,
        modifier_settings={"normsys": {"interpcode": normsys}, "histosys": {"interpcode": histosys}},
    )
    counts = {observation["name"]: observation["data"] for observation in spec["observations"]}
    return model, [n for channel in model.config.channels for n in counts[channel]] + model.config.auxdata


def random_points(parameters, n, *, reach=1.5, seed=5):
    """Points on all branches of the interpolation codes; fixed parameters move too."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield np.array(
            [
                p.init + reach * rng.normal() if p.centre == 0.0 else max(p.init + 0.2 * rng.normal(), 0.05)
                for p in parameters
            ]
        )


@pytest.mark.parametrize("codes", CODES, ids="-".join)
def test_value_is_that_of_pyhf(spec, codes):
    """Reference: catches a wrong order of parameters or data, a wrong constant, and any error in any modifier."""
    model, data = pyhf_model(spec, *codes)
    likelihood = CompiledLikelihood.from_model(model, data)
    assert likelihood.parameter_names == tuple(model.config.par_names)
    assert likelihood.observed_data.tolist() == data
    compared = 0
    for point in random_points(likelihood.parameters, 12):
        if codes[1] == "code2":  # pyhf jumps beyond one sigma
            point = np.clip(point, -1.0, 1.0)
        yields = np.asarray(model.main_model.expected_data(point))
        assert likelihood.expected_yields(point) == pytest.approx(yields, rel=1e-12, abs=1e-12)
        if (yields > 0.0).all():
            compared += 1
            assert likelihood.twice_nll(point) == pytest.approx(-2.0 * float(model.logpdf(point, data)[0]), rel=1e-10)
    assert compared >= 6


@pytest.mark.parametrize("codes", CODES, ids="-".join)
def test_derivatives_are_those_of_the_value(models, codes):
    """Reference: catches a wrong or missing term of gradient or Hessian, the mixed ones included."""
    model, data = pyhf_model(everything(models), *codes)
    likelihood = CompiledLikelihood.from_model(model, data)
    free = [index for index, p in enumerate(likelihood.parameters) if not p.fixed]
    for point in random_points(likelihood.parameters, 3, reach=0.6, seed=8):
        found = likelihood.derivatives(point)
        for index in free:
            step = np.zeros(len(point))
            step[index] = 1e-4
            up, down = likelihood.derivatives(point + step), likelihood.derivatives(point - step)
            slope = (up.twice_nll - down.twice_nll) / 2e-4
            assert found.gradient[index] == pytest.approx(slope, rel=1e-5, abs=1e-5)
            row = (up.gradient - down.gradient) / 2e-4
            assert found.hessian[index] == pytest.approx(row, rel=1e-5, abs=1e-4)
        fixed = [index for index, p in enumerate(likelihood.parameters) if p.fixed]
        assert not found.gradient[fixed].any()
        assert not found.hessian[fixed].any()


def test_derivatives_where_factors_are_zero(models):
    """Catches a division by a factor: a signal strength of zero, and two factors of one sample that are both zero."""
    spec = models.counting([5.0], [10.0], [9.0], signal_modifiers=[models.normfactor("k")])
    likelihood = CompiledLikelihood(spec)
    order = [likelihood.parameter_names.index(name) for name in ("mu", "k")]
    point = np.zeros(2)
    found = likelihood.derivatives(point)
    assert found.gradient[order] == pytest.approx([0.0, 0.0])
    assert found.hessian[order[0], order[1]] == pytest.approx(2.0 * 5.0 * (1.0 - 9.0 / 10.0))
    point[order[0]] = 1.0
    found = likelihood.derivatives(point)
    assert found.gradient[order] == pytest.approx([0.0, 2.0 * 5.0 * (1.0 - 9.0 / 10.0)])


def test_profile_is_differentiated_exactly(spec):
    """Catches a wrong Schur complement: gradient and Hessian of the profile, not of the likelihood, are what fits use."""
    likelihood = CompiledLikelihood(spec)
    flat, split = likelihood.flat, likelihood.split()

    def profile(x):
        return likelihood._evaluate(flat, x, split, derivatives=True)

    start = np.array([likelihood.parameters[index].init for index in flat.globals_])
    rng = np.random.default_rng(2)
    for _ in range(3):
        x = start + np.where(start == 0.0, 0.6, 0.15) * rng.normal(size=len(start))
        value, gradient, hessian, gamma = profile(x)
        # the value is that of the likelihood with the locals where the profile has put them
        point = np.array([parameter.init for parameter in likelihood.parameters])
        point[flat.globals_], point[flat.locals_] = x, gamma
        assert value + split.constant == pytest.approx(likelihood.twice_nll(point), rel=1e-12)
        full = likelihood.derivatives(point).gradient[flat.locals_]
        bounds = [(likelihood.parameters[index].lower, likelihood.parameters[index].upper) for index in flat.locals_]
        inside = [low < value < high for (low, high), value in zip(bounds, gamma, strict=True)]
        assert full[np.array(inside, dtype=bool)] == pytest.approx(0.0, abs=1e-7)
        for index in range(len(x)):
            step = np.zeros(len(x))
            step[index] = 1e-5
            up, down = profile(x + step), profile(x - step)
            assert gradient[index] == pytest.approx((up[0] - down[0]) / 2e-5, rel=1e-5, abs=2e-5)
            assert hessian[index] == pytest.approx((up[1] - down[1]) / 2e-5, rel=1e-4, abs=1e-3)


def test_fits_are_not_above_pyhf(spec, reference):
    """Reference: catches a fit that stops early, at a wrong bound, or in the wrong place."""
    likelihood, solved = CompiledLikelihood(spec), reference(spec)
    assert likelihood.fit().twice_nll <= solved.minimum() + 1e-9
    for poi in (0.0, 0.7, 2.5):
        assert likelihood.fit_fixed_poi(poi).twice_nll <= solved.minimum(poi) + 1e-9


def test_fits_agree_with_the_other_likelihood(spec):
    """Reference: catches a difference from the readable implementation in what a fit reports."""
    ours, theirs = CompiledLikelihood(spec), PyhfLikelihood(spec)
    assert ours.parameters == theirs.parameters
    assert ours.bin_names == theirs.bin_names
    for a, b in ((ours.fit(), theirs.fit()), (ours.fit_fixed_poi(1.5), theirs.fit_fixed_poi(1.5))):
        assert a.twice_nll == pytest.approx(b.twice_nll, abs=1e-9)
        assert a.poi_gradient == pytest.approx(b.poi_gradient, abs=1e-4)
        assert a.at_bounds == b.at_bounds
        assert a.clipped_bins == b.clipped_bins
        assert ours.asimov_data(a.bestfit) == pytest.approx(theirs.asimov_data(a.bestfit), rel=1e-12)
    start = ours.fit()
    again = ours.fit(start=start.bestfit)
    assert again.twice_nll == pytest.approx(start.twice_nll, abs=1e-10)
    assert again.evaluations <= start.evaluations


@pytest.mark.parametrize("codes", [("code1", "code0"), ("code1", "code2"), ("code4", "code0")], ids="-".join)
def test_minimum_at_a_kink_is_found(models, codes):
    """Catches a fit that fails, or stops on the wrong side, where codes 0 and 1 bend the profile at zero."""
    spec = models.counting(
        [5.0, 3.0],
        [100.0, 80.0],
        [100.0, 80.0],
        background_modifiers=[
            models.normsys("rate", 1.3, 1.3),
            models.histosys("shape", [120.0, 70.0], [115.0, 72.0]),
        ],
    )
    for shift in (0.0, 4.0, -4.0, 30.0, -30.0):
        spec["observations"][0]["data"] = [100.0 + shift, 80.0 - 0.5 * shift]
        model, data = pyhf_model(spec, *codes)
        likelihood = CompiledLikelihood.from_model(model, data)
        found = likelihood.fit_fixed_poi(0.0)
        order = [likelihood.parameter_names.index(name) for name in ("mu", "rate", "shape")]
        grid = np.linspace(-2.0, 2.0, 41)
        lowest = math.inf
        for rate, shape in itertools.product(grid, grid):
            point = np.zeros(3)
            point[order] = 0.0, rate, shape
            lowest = min(lowest, likelihood.twice_nll(point))
        assert found.twice_nll <= lowest + 1e-9


class TestEdges:
    """Each decided: the right number, or a failure with its name. pyhf raises, or returns nonsense, in most of them."""

    def rate(self, models):
        return [models.normsys("nb", 1.1, 0.9)]

    def test_bin_without_background_and_events(self, models):
        """Catches 0 ln 0."""
        spec = models.counting([5.0, 3.0], [10.0, 0.0], [9.0, 0.0], background_modifiers=self.rate(models))
        assert math.isfinite(CompiledLikelihood(spec).fit_fixed_poi(0.0).twice_nll)

    def test_bin_without_background_but_with_events(self, models):
        """Catches a number where mu = 0 is impossible; with a free signal it is not."""
        spec = models.counting([5.0, 3.0], [10.0, 0.0], [9.0, 2.0], background_modifiers=self.rate(models))
        likelihood = CompiledLikelihood(spec)
        assert likelihood.fit().poi_value > 0.1
        with pytest.raises(FitFailure, match=r"nll-not-finite.*SR\[1\] has 2 events and expects 0"):
            likelihood.fit_fixed_poi(0.0)

    def test_impossible_bin(self, models):
        """Catches the 1e38 of a bin that expects nothing, whatever the parameters, and has an event."""
        spec = models.counting([5.0, 0.0], [10.0, 0.0], [9.0, 1.0], background_modifiers=self.rate(models))
        with pytest.raises(FitFailure, match="nll-not-finite"):
            CompiledLikelihood(spec).fit()

    def test_no_events_at_all(self, models):
        """Catches a minimum sought inside, when all terms are straight lines."""
        spec = models.counting([5.0, 3.0], [3.0, 2.0], [0.0, 0.0], background_modifiers=self.rate(models))
        found = CompiledLikelihood(spec).fit()
        assert found.poi_value == 0.0
        assert found.at_bounds == ("mu",)

    def test_best_fit_beyond_the_upper_bound_of_the_poi(self, models):
        """Catches a bound that cuts limits short: the POI has no upper bound."""
        spec = models.counting([5.0, 3.0], [10.0, 8.0], [80.0, 55.0], background_modifiers=self.rate(models))
        found = CompiledLikelihood(spec).fit()
        assert found.poi_value > 10.0
        assert found.poi_gradient == pytest.approx(0.0, abs=1e-5)

    def test_flat_direction_is_no_failure(self, models):
        """Catches a singular Hessian that is taken for a failed fit: two free norms of one shape."""
        free = [models.normfactor("k1"), models.normfactor("k2")]
        spec = models.counting([5.0, 3.0], [10.0, 8.0], [9.0, 8.0], background_modifiers=[*self.rate(models), *free])
        single = models.counting(
            [5.0, 3.0], [10.0, 8.0], [9.0, 8.0], background_modifiers=[*self.rate(models), free[0]]
        )
        found, other = CompiledLikelihood(spec).fit(), CompiledLikelihood(single).fit()
        assert found.twice_nll == pytest.approx(other.twice_nll, abs=1e-9)

    def test_negative_curvature_is_left_behind(self, models):
        """Catches a fit that creeps where the profile is bent the wrong way: both shape and rate fall to either side."""
        modifiers = [models.normsys("rate", 1.25, 1.69), models.histosys("shape", [24.95], [9.2315])]
        spec = models.counting([8.42], [24.95], [15.0], background_modifiers=modifiers)
        ours, theirs = CompiledLikelihood(spec).fit_fixed_poi(3.0), PyhfLikelihood(spec).fit_fixed_poi(3.0)
        assert ours.twice_nll <= theirs.twice_nll + 1e-9
        assert ours.evaluations < 25 * ours.fits  # of which there are many, from all over the place

    def test_the_lower_of_two_minima_is_found(self, models):
        """Catches a fit that stops in the nearer minimum: with hi 2 and lo 0.875, code 4 is lowest between 0 and -1."""
        modifiers = [models.normsys("rate", 2.0, 0.875)]
        spec = models.counting([8.0], [25.0], [0.0], background_modifiers=modifiers)
        likelihood = CompiledLikelihood(spec)
        found = likelihood.fit_fixed_poi(0.0)
        order = [likelihood.parameter_names.index(name) for name in ("mu", "rate")]
        for rate in np.linspace(-4.9, 4.9, 491):
            point = np.zeros(2)
            point[order] = 0.0, rate
            assert found.twice_nll <= likelihood.twice_nll(point) + 1e-9

    def test_a_saddle_point_is_left(self, models):
        """Catches a fit that stays where the gradient is zero by symmetry: both sides of a shape lower the yield."""
        spec = models.counting([8.0], [30.0], [5.0], background_modifiers=[models.histosys("shape", [21.0], [21.0])])
        likelihood = CompiledLikelihood(spec)
        found = likelihood.fit_fixed_poi(0.0)
        order = [likelihood.parameter_names.index(name) for name in ("mu", "shape")]
        for shape in np.linspace(-4.9, 4.9, 491):
            point = np.zeros(2)
            point[order] = 0.0, shape
            assert found.twice_nll <= likelihood.twice_nll(point) + 1e-9

    def test_negative_yield_without_events_counts_as_empty(self, models):
        """Catches a likelihood that grows without limit as a yield becomes more negative, and hundreds of failed fits."""
        spec = models.counting([5.0, 3.0], [10.0, -0.2], [9.0, 0.0], background_modifiers=self.rate(models))
        likelihood = CompiledLikelihood(spec)
        found = likelihood.fit_fixed_poi(0.0)
        assert found.clipped_bins == ("SR[1]",)
        assert found.twice_nll == pytest.approx(PyhfLikelihood(spec).fit_fixed_poi(0.0).twice_nll, abs=1e-9)
        assert found.evaluations < 60

    def test_histosys_that_empties_a_bin(self, models):
        """Catches a fit lost where a shape drives a bin below zero."""
        shape = models.histosys("h", [12.0, 3.0], [8.0, -1.0])
        spec = models.counting([5.0, 3.0], [10.0, 1.0], [9.0, 0.0], background_modifiers=[*self.rate(models), shape])
        ours, theirs = CompiledLikelihood(spec).fit(), PyhfLikelihood(spec).fit()
        assert ours.twice_nll <= theirs.twice_nll + 1e-9
        assert ours.evaluations < 60 * ours.fits  # each of which has to get over the edge of the empty bin

    @pytest.mark.parametrize("scale", [1e-6, 1e4])
    def test_weak_and_strong_signals(self, models, scale):
        """Invariant: catches an absolute scale of mu in the minimiser."""
        plain = models.counting([5.0, 3.0], [10.0, 8.0], [14.0, 12.0], background_modifiers=self.rate(models))
        scaled = copy.deepcopy(plain)
        scaled["channels"][0]["samples"][0]["data"] = [5.0 * scale, 3.0 * scale]
        a, b = CompiledLikelihood(plain).fit(), CompiledLikelihood(scaled).fit()
        assert b.twice_nll == pytest.approx(a.twice_nll, abs=1e-9)
        assert b.poi_value * scale == pytest.approx(a.poi_value, rel=1e-6)

    def test_large_yields(self, models):
        """Catches a loss of digits where -2 ln L is a small difference of large numbers."""
        spec = models.counting([1000.0, 500.0], [1e6, 5e5], [1.0005e6, 5.003e5], background_modifiers=self.rate(models))
        ours, theirs = CompiledLikelihood(spec).fit(), PyhfLikelihood(spec).fit()
        assert ours.twice_nll == pytest.approx(theirs.twice_nll, abs=1e-9)

    def test_uncertainty_of_zero_is_no_parameter(self, models):
        """Catches a division by a staterror or shapesys of zero, which pyhf fixes at 1."""
        for kind in ("staterror", "shapesys"):
            spec = models.counting(
                [5.0, 3.0], [10.0, 0.0], [9.0, 1.0], background_modifiers=[binwise(kind, "mc", [1.0, 0.0])]
            )
            likelihood = CompiledLikelihood(spec)
            found = likelihood.fit()
            assert found["mc[1]"] == 1.0
            assert found.twice_nll == pytest.approx(PyhfLikelihood(spec).fit().twice_nll, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mods: mods.append(binwise("staterror", "a", [1.0])), "different parameters"),
        (lambda mods: mods.append({"name": "z", "type": "normsys", "data": {"hi": 1.1, "lo": 0.0}}), "above 0"),
        (lambda mods: mods.append(LUMI), "luminosity has no defaults"),
    ],
    ids=["name of two types", "normsys of zero", "luminosity without configuration"],
)
def test_unusable_workspaces_are_named(models, change, message):
    """Catches a workspace that fails with a traceback, or not at all."""
    spec = models.counting([5.0], [10.0], [9.0], background_modifiers=[models.normsys("a", 1.1, 0.9)])
    change(spec["channels"][0]["samples"][1]["modifiers"])
    with pytest.raises(WorkspaceError, match=message):
        CompiledLikelihood(spec)


def test_shapes_of_data_and_parameters_are_checked(models):
    """Catches arrays of the wrong length, which a kernel would read past their end."""
    likelihood = CompiledLikelihood(models.binwise("shapesys"))
    with pytest.raises(WorkspaceError, match="expected"):
        likelihood.fit([1.0, 2.0])
    with pytest.raises(ValueError, match="expected"):
        likelihood.twice_nll([1.0])
    bad = likelihood.observed_data.copy()
    bad[0] = -1.0
    with pytest.raises(WorkspaceError, match=r"data\[0\]"):
        likelihood.fit(bad)


modest = st.floats(0.0, 40.0).map(lambda value: round(value, 2))


@st.composite
def workspaces(draw):
    """One or two channels of one to three bins, one or two backgrounds, any modifiers, any counts; no negative yield.

    The sides of a normsys are anything, those of a histosys too. Shapefactors and free norms meet on one sample only in
    tests of their own, since their product has flat valleys in which minimisers of either kind may stop.
    """
    relative = st.sampled_from([0.0, 1e-4, 0.01, 0.1, 0.3, 0.7])
    factor = st.floats(0.4, 2.5).map(lambda value: round(value, 3))
    channels, observations = [], []
    for channel in ["CR", "SR"][: draw(st.integers(1, 2))]:
        n = draw(st.integers(1, 3))
        yields = st.lists(modest, min_size=n, max_size=n)
        widths = st.lists(relative, min_size=n, max_size=n)
        samples = [
            {"name": "signal", "data": draw(yields), "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]}
        ]
        for name in ["one", "two"][: draw(st.integers(1, 2))]:
            nominal = draw(yields)
            modifiers = []
            if draw(st.booleans()):
                data = {"hi": draw(factor), "lo": draw(factor)}
                modifiers.append(
                    {"name": draw(st.sampled_from(["rate", f"rate_{name}"])), "type": "normsys", "data": data}
                )
            if draw(st.booleans()):
                data = {
                    key: [a * (1.0 + sign * b) for a, b in zip(nominal, draw(widths), strict=True)]
                    for key, sign in (("hi_data", draw(st.sampled_from([-0.19, 0.19]))), ("lo_data", -0.19))
                }
                modifiers.append({"name": "shape", "type": "histosys", "data": data})
            kind = draw(st.sampled_from(["none", "staterror", "shapesys", "shapefactor"]))
            if kind == "shapefactor":
                modifiers.append(shapefactor(f"free_{channel}_{name}"))
            elif kind != "none":
                data = [a * b for a, b in zip(nominal, draw(widths), strict=True)]
                modifiers.append(
                    binwise(kind, f"mc_{channel}" if kind == "staterror" else f"mc_{channel}_{name}", data)
                )
            if kind != "shapefactor" and draw(st.booleans()):
                modifiers.append({"name": f"k_{name}", "type": "normfactor", "data": None})
            samples.append({"name": name, "data": nominal, "modifiers": modifiers})
        channels.append({"name": channel, "samples": samples})
        counts = draw(st.lists(st.integers(0, 60), min_size=n, max_size=n))
        observations.append({"name": channel, "data": counts})
    parameters = [{"name": "mu", "bounds": [[0.0, 10.0]], "inits": [1.0]}]
    return {
        "version": "1.0.0",
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": parameters}}],
    }


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(spec=workspaces(), poi=st.sampled_from([None, 0.0, 1.0, 3.0]))
def test_any_workspace_is_fitted_as_well_as_by_the_other_likelihood(spec, poi):
    """Invariant: catches a wrong number in a combination nobody thought of. Both fail, or neither is above the other."""
    ours, theirs = CompiledLikelihood(spec), PyhfLikelihood(spec)
    try:
        expected = theirs.fit() if poi is None else theirs.fit_fixed_poi(poi)
    except FitFailure as failure:
        if failure.reason == "nll-not-finite":
            with pytest.raises(FitFailure, match="nll-not-finite"):
                ours.fit() if poi is None else ours.fit_fixed_poi(poi)
        return
    found = ours.fit() if poi is None else ours.fit_fixed_poi(poi)
    assert found.twice_nll <= expected.twice_nll + 1e-9
    # and it is a value that the likelihood really takes, as far as the terms n ln n of pyhf, which cancel, are exact
    largest = float(np.max(theirs.observed_data, initial=1.0))
    rounding = 8.0 * np.finfo(float).eps * largest * math.log(largest + 1.0)
    assert theirs.twice_nll(found.bestfit) == pytest.approx(found.twice_nll, abs=1e-8 + rounding, rel=1e-10)
