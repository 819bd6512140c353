"""Workspaces that the benchmarks find limits for.

Families, as functions of a mass: `count`, a signal bin with two control bins, 9 parameters; `bump60`, a peak in 60 bins,
3 backgrounds, 73 parameters; `multi`, 4 channels of 100 bins, 421 parameters; `single`, one bin with an uncertainty of the
signal and one of the background, 3 parameters. The observed counts are those of background only, and the same at all masses
of a family but `single`, where the background depends on the mass as well.

`published` makes a workspace with a signal of a background-only one, as searches publish them: a sample of its own in
every channel, of a third of the square root of the background in each bin, with the POI of the measurement and a normsys.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Workspace = dict[str, Any]

LUMI = {"name": "lumi", "type": "lumi", "data": None}


def normfactor(name: str) -> dict[str, Any]:
    return {"name": name, "type": "normfactor", "data": None}


def normsys(name: str, hi: float, lo: float) -> dict[str, Any]:
    return {"name": name, "type": "normsys", "data": {"hi": hi, "lo": lo}}


def histosys(name: str, hi: Floats, lo: Floats) -> dict[str, Any]:
    return {"name": name, "type": "histosys", "data": {"hi_data": hi.tolist(), "lo_data": lo.tolist()}}


def staterror(name: str, yields: Floats, relative: float) -> dict[str, Any]:
    return {"name": name, "type": "staterror", "data": (np.sqrt(yields) * relative).tolist()}


def peak(edges: Floats, mass: float, width: float) -> Floats:
    """Share of a Gaussian in each bin."""
    return np.diff([0.5 * (1.0 + math.erf((edge - mass) / (width * math.sqrt(2.0)))) for edge in edges])


def workspace(channels: dict[str, tuple[list[dict[str, Any]], Floats]], poi_bound: float) -> Workspace:
    """channels: samples and counts by name."""
    lumi = {"name": "lumi", "auxdata": [1.0], "bounds": [[0.5, 1.5]], "inits": [1.0], "sigmas": [0.017]}
    poi = {"name": "mu", "bounds": [[0.0, poi_bound]], "inits": [1.0]}
    return {
        "version": "1.0.0",
        "channels": [{"name": name, "samples": samples} for name, (samples, _) in channels.items()],
        "observations": [{"name": name, "data": counts.tolist()} for name, (_, counts) in channels.items()],
        "measurements": [{"name": "limit", "config": {"poi": "mu", "parameters": [lumi, poi]}}],
    }


def sample(name: str, yields: Floats | float, *modifiers: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "data": np.atleast_1d(yields).tolist(), "modifiers": list(modifiers)}


def count(mass: float) -> Workspace:
    """A signal bin and two control bins that fix the two backgrounds."""
    rng = np.random.default_rng(13)
    efficiency = 0.6 + 0.3 * math.sin(mass)
    signal = [normfactor("mu"), LUMI, normsys("sig_eff", 1.06, 0.94)]
    a, b = normfactor("k_A"), normfactor("k_B")
    stat = [{"name": "stat_SR", "type": "staterror", "data": [value]} for value in (0.5, 0.4)]
    counts = [np.array([float(rng.poisson(expected))]) for expected in (10.5, 135.0, 80.0)]
    return workspace(
        {
            "SR": (
                [
                    sample("signal", 8.0 * efficiency, *signal, normsys("sig_th", 1.1, 0.92)),
                    sample("A", 6.0, a, normsys("A_extrap", 1.08, 0.93), stat[0]),
                    sample("B", 3.0 + 0.2 * mass, b, normsys("B_extrap", 1.12, 0.90), stat[1]),
                ],
                counts[0],
            ),
            "CR1": (
                [sample("signal", 0.4 * efficiency, *signal), sample("A", 120.0, a), sample("B", 15.0, b)],
                counts[1],
            ),
            "CR2": ([sample("A", 20.0, a), sample("B", 60.0, b)], counts[2]),
        },
        15.0,
    )


def bump60(mass: float) -> Workspace:
    """A peak on three backgrounds, with rate, shape and per-bin uncertainties."""
    edges = np.linspace(0.0, 6.0, 61)
    x = 0.5 * (edges[1:] + edges[:-1])
    t = (x - x.mean()) / (x.max() - x.min())
    continuum = 250.0 * np.exp(-0.55 * x)
    rising = 18.0 * (0.3 + 0.25 * x)
    broad = 40.0 * np.exp(-0.5 * ((x - 3.0) / 0.5) ** 2)
    width = 0.06 + 0.02 * mass
    window = abs(x - mass) < 2.0 * width
    events = 2.0 * math.sqrt(float((continuum + rising + broad)[window].sum()) + 4.0)
    up, down = (events * peak(edges, mass, width * factor) for factor in (1.1, 0.9))
    samples = [
        sample(
            "signal",
            events * peak(edges, mass, width),
            normfactor("mu"),
            LUMI,
            normsys("sig_eff", 1.05, 0.95),
            normsys("sig_trig", 1.02, 0.98),
            normsys("sig_scale", 1.08, 0.93),
            normsys("pdf", 1.03, 0.97),
            histosys("sig_width", up, down),
        ),
        sample(
            "cont",
            continuum,
            normfactor("k_cont"),
            normsys("pdf", 1.02, 0.99),
            histosys("cont_slope", continuum * (1.0 + 0.1 * t), continuum * (1.0 - 0.09 * t)),
            staterror("stat", continuum, 0.4),
        ),
        sample(
            "rising",
            rising,
            LUMI,
            normsys("rise_xs", 1.1, 0.92),
            histosys("rise_shape", rising * (1.0 + 0.2 * t), rising * (1.0 - 0.2 * t)),
            staterror("stat", rising, 0.3),
        ),
        sample(
            "broad",
            broad,
            LUMI,
            normsys("broad_xs", 1.15, 0.85),
            histosys("broad_jes", broad * (1.0 + 0.15 * np.sin(x)), broad * (1.0 - 0.13 * np.sin(x))),
            staterror("stat", broad, 0.3),
        ),
    ]
    counts = np.random.default_rng(11).poisson(continuum + rising + broad).astype(float)
    return workspace({"SR": (samples, counts)}, 10.0)


def multi(mass: float) -> Workspace:
    """Four channels of different purity that share most of their systematics."""
    rng = np.random.default_rng(12)
    edges = np.linspace(0.0, 10.0, 101)
    x = 0.5 * (edges[1:] + edges[:-1])
    t = (x - 5.0) / 10.0
    width = 0.1 + 0.02 * mass
    channels = {}
    for k, purity in enumerate((1.0, 0.5, 0.15, 0.05)):
        cont = 400.0 * (1.0 - 0.2 * k) * np.exp(-0.45 * x) + 0.3
        rising = 15.0 * (1 + k) * (0.3 + 0.1 * x)
        broad = 20.0 * np.exp(-0.5 * (x - 4.0) ** 2) + 0.05
        counts = rng.poisson(cont + rising + broad).astype(float)
        window = abs(x - mass) < 2.0 * width
        events = 1.6 * purity * math.sqrt(float((cont + rising + broad)[window].sum()) + 4.0)
        nominal, up, down = (events * peak(edges, mass, width * factor) for factor in (1.0, 1.1, 0.9))
        stat, wave = f"stat_{k}", np.sin(x)
        samples = [
            sample(
                "signal",
                nominal,
                normfactor("mu"),
                LUMI,
                normsys("sig_eff", 1.05, 0.95),
                normsys(f"sig_id{k}", 1.02, 0.98),
                normsys("sig_scale", 1.08, 0.93),
                normsys("pdf", 1.03, 0.97),
                histosys("sig_width", up, down),
            ),
            sample(
                "cont",
                cont,
                normfactor("k_cont"),
                normsys("pdf", 1.02, 0.99),
                normsys(f"cont_extrap{k}", 1.03, 0.97),
                histosys("cont_slope", cont * (1.0 + 0.1 * t), cont * (1.0 - 0.09 * t)),
                histosys("jes", cont * (1.0 + 0.03 * t), cont * (1.0 - 0.03 * t)),
                staterror(stat, cont, 0.4),
            ),
            sample(
                "rising",
                rising,
                normfactor("k_rise"),
                normsys("rise_xs", 1.1, 0.92),
                histosys("rise_shape", rising * (1.0 + 0.2 * t), rising * (1.0 - 0.2 * t)),
                histosys("jes", rising * (1.0 - 0.04 * t), rising * (1.0 + 0.04 * t)),
                staterror(stat, rising, 0.3),
            ),
            sample(
                "broad",
                broad,
                LUMI,
                normsys("broad_xs", 1.15, 0.85),
                histosys("jes", broad * (1.0 + 0.15 * wave), broad * (1.0 - 0.13 * wave)),
                staterror(stat, broad, 0.3),
            ),
        ]
        channels[f"ch{k}"] = (samples, counts)
    return workspace(channels, 10.0)


def single(mass: float) -> Workspace:
    """One bin, two nuisance parameters; from a fraction of a background event to some fifty."""
    background = 30.0 * math.exp(-0.7 * mass) * (1.2 + math.sin(5.0 * mass)) + 0.2
    efficiency = 0.6 + 0.3 * math.sin(mass)
    relative = 0.05 + 0.02 * mass
    samples = [
        sample("signal", 8.0 * efficiency, normfactor("mu"), normsys("sig_eff", 1.06, 0.94)),
        sample("background", background, normsys("bkg_norm", 1.0 + relative, 1.0 / (1.0 + relative))),
    ]
    counts = np.random.default_rng(round(1e6 * mass)).poisson(background)
    spec = workspace({"SR": (samples, np.array([float(counts)]))}, 20.0)
    del spec["measurements"][0]["config"]["parameters"][0]  # no luminosity
    return spec


def published(path: Path) -> Workspace:
    """A published background-only workspace, with a signal."""
    spec: Workspace = json.loads(path.read_text(encoding="utf-8"))
    poi = spec["measurements"][0]["config"]["poi"]
    for channel in spec["channels"]:
        background = np.sum([one["data"] for one in channel["samples"]], axis=0)
        signal = 0.33 * np.sqrt(np.maximum(background, 0.0) + 1.0)
        channel["samples"].append(
            sample("added_signal", signal, normfactor(poi), normsys("added_signal_efficiency", 1.1, 0.9))
        )
    return spec


FAMILIES: dict[str, Callable[[float], Workspace]] = {"count": count, "bump60": bump60, "multi": multi}
