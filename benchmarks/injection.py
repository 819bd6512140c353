"""Do the searches find what is there: pulls of injected signals and spurious signals, as the table of docs/injection.md.

    python benchmarks/injection.py -o FOLDER [--toys N] [--jobs N] [SPEC...]

For each spec (by default one of every search that fits shapes) a run with five masses spread over the grid, and signals of
0, 2 and 5 standard deviations put into pseudo-data there. A run that is in FOLDER already is gone on with.

Spurious signal: what a fit of signal and polynomial finds in the expected background, in standard deviations, the largest of
the whole grid; by linear least squares and with a normal distribution of the stated resolution as signal. It is for
backgrounds that are stated; those that are simulated have theirs as a systematic, and a hyphen here.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from modelbuilder.histograms import bernstein
from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.histograms.templates import SampleTemplates, Template
from modelbuilder.scan.injection import FEW_EVENTS, Injection, PointInjections, inject
from modelbuilder.scan.run import run_search
from modelbuilder.spec.load import LoadedSearch, load_search
from modelbuilder.spec.search import BernsteinShape, StatedBackground

SPECS = (
    "belle2/alp_gammagamma_2018",
    "belle2/alp_invisible",
    "belle2/zprime_invisible_2020",
    "belle2/tautau_resonance_2020",
    "belle2/mumu_resonance_2021",
    "belle/mumu_resonance",
    "babar/mumu_resonance",
    "babar/darkphoton_invisible_loose_y3s",
    "belle2/darkphoton_invisible",
    "babar/darkphoton_ee",
    "babar/darkphoton_mumu",
    "belle/leptophilic_scalar_ee",
    "belle/leptophilic_scalar_mumu",
    "babar/leptophilic_scalar_ee",
    "babar/leptophilic_scalar_mumu",
)
STRENGTHS = (0.0, 2.0, 5.0)
MOST_CUT_OFF = 0.05
"""With more of its toys cut off at the lower bound, a mean and a width say what the bound does."""
HEAD = (
    "| search | masses (GeV) | shift | scatter | pull | width | bias, 0 sigma | largest spurious signal |",
    "|---|---|---|---|---|---|---|---|",
)


def row(name: str, search: LoadedSearch, five: Sequence[PointInjections]) -> str:
    """A line of the table."""
    masses = ", ".join(f"{next(iter(found.values.values())):.3g}" for found in five)
    few = [one for found in five if found.peak_background < FEW_EVENTS for one in found.injections]
    many = [one for found in five if found.peak_background >= FEW_EVENTS for one in found.injections]
    failed = "".join(f"; {found.point} failed: {found.failure}" for found in five if found.failure)
    return (
        f"| {name} | {masses} | {_range(few, 'shift')} | {_range(few, 'scatter')} | {_range(many, 'mean')} "
        f"| {_range(many, 'width')} | {_biases(five)}{failed} | {_largest(search)} |"
    )


def spurious_signals(search: LoadedSearch) -> Iterator[tuple[float, float]]:
    """Mass (GeV), and what the polynomial leaves over for a signal (standard deviations), of each grid point."""
    simulation = Simulation(search)
    regions: dict[str, RegionTemplates] = {}
    for point in search.points:
        region = simulation.region_of(point)
        if region.name not in regions:
            regions[region.name] = simulation.background(region)
        edges = region.binning.edges
        window = region.window(point.mass)
        middle = 0.5 * (window.start + window.stop)  # in bins of half a resolution
        peak = np.diff(ndtr((np.arange(len(edges)) - middle) / 2.0))
        found = regions[region.name].at(point, SampleTemplates(Template(peak, np.zeros_like(peak))), 1.0)
        (background,) = found.backgrounds.values()
        (shape,) = (one.shape for one in search.spec.backgrounds.values())
        assert isinstance(shape, BernsteinShape)
        order = round(shape.bernstein.at(point.values))
        variances = dataclasses.replace(background.nominal, variances=background.nominal.values)
        size, error = bernstein.spurious_signal(
            SampleTemplates(variances), found.signal.nominal.values, found.edges, order
        )
        yield point.mass, size / error


def _largest(search: LoadedSearch) -> str:
    if not all(isinstance(one, StatedBackground) for one in search.spec.backgrounds.values()):
        return "-"
    mass, size = max(spurious_signals(search), key=lambda found: abs(found[1]))
    return f"{size:+.2f} at {mass:.3g} GeV"


def _range(injections: Sequence[Injection], name: str) -> str:
    found = [getattr(one.pulls, name) for one in injections if one.pulls is not None and not _cut_off(one)]
    sign = "" if name in ("width", "scatter") else "+"
    return f"{min(found):{sign}.2f} to {max(found):{sign}.2f}" if found else ""


def _cut_off(one: Injection) -> bool:
    return one.pulls is not None and one.pulls.n_cut_off > MOST_CUT_OFF * one.pulls.n_toys


def _biases(five: Sequence[PointInjections]) -> str:
    found = [point.injections[0].bias for point in five if point.injections]
    return f"{min(found):+.2f} to {max(found):+.2f}"


def rows(specs: Path, folder: Path, names: Sequence[str], *, toys: int, jobs: int) -> Iterator[str]:
    """Lines of the table, as they are found."""
    for name in names:
        search = load_search(specs / f"{name}.yaml")
        assert isinstance(search, LoadedSearch)
        run = folder / name.replace("/", "_")
        run_search(search, run, points=5, jobs=jobs)
        yield row(name, search, inject(run, points=5, strengths=STRENGTHS, n_toys=toys, seed=1, n_threads=jobs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--specs", type=Path, default=Path(__file__).parent.parent / "specs")
    parser.add_argument("--toys", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("names", nargs="*", metavar="SPEC")
    options = parser.parse_args()
    options.output.mkdir(exist_ok=True)
    print("\n".join(HEAD))
    names = options.names or SPECS
    for line in rows(options.specs, options.output, names, toys=options.toys, jobs=options.jobs):
        print(line, flush=True)
