"""Do the searches find what is there: pulls of injected signals and spurious signals, as the table of docs/injection.md.

    python benchmarks/injection.py -o FOLDER [--whole] [--toys N] [--jobs N] [SPEC...]

For each spec (by default one of every search that fits shapes) a run with five masses spread over the grid, signals of 0, 2
and 5 standard deviations put into pseudo-data there, and the largest bias of a fit to the expectation without a signal.
--whole: runs of the whole grid, so that the last is that of all masses; minutes for each spec.
A run in FOLDER that is there already is gone on with.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelbuilder.scan.injection import FEW_EVENTS, Injection, PointInjections, inject
from modelbuilder.scan.run import run_search
from modelbuilder.spec.load import LoadedSearch, load_search

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
    "| search | masses (GeV) | shift | scatter | pull | width | bias, 0 sigma | largest in the grid |",
    "|---|---|---|---|---|---|---|---|",
)


def row(name: str, five: Sequence[PointInjections], every: Sequence[PointInjections]) -> str:
    """A line of the table. every: of all masses that were run, without toys."""
    masses = ", ".join(f"{next(iter(found.values.values())):.3g}" for found in five)
    few = [one for found in five if found.peak_background < FEW_EVENTS for one in found.injections]
    many = [one for found in five if found.peak_background >= FEW_EVENTS for one in found.injections]
    worst = max((one for one in every if one.injections), key=lambda one: abs(one.injections[0].bias))
    failed = [found for found in (*five, *every) if found.failure]
    return (
        f"| {name} | {masses} | {_range(few, 'shift')} | {_range(few, 'scatter')} | {_range(many, 'mean')} "
        f"| {_range(many, 'width')} | {_biases(five)} "
        f"| {worst.injections[0].bias:+.2f} at {next(iter(worst.values.values())):.3g} GeV, of {len(every)}"
        f"{f'; {len(failed)} failed' if failed else ''} |"
    )


def _range(injections: Sequence[Injection], name: str) -> str:
    found = [getattr(one.pulls, name) for one in injections if one.pulls is not None and not _cut_off(one)]
    sign = "" if name in ("width", "scatter") else "+"
    return f"{min(found):{sign}.2f} to {max(found):{sign}.2f}" if found else ""


def _cut_off(one: Injection) -> bool:
    return one.pulls is not None and one.pulls.n_cut_off > MOST_CUT_OFF * one.pulls.n_toys


def _biases(five: Sequence[PointInjections]) -> str:
    found = [point.injections[0].bias for point in five if point.injections]
    return f"{min(found):+.2f} to {max(found):+.2f}"


def rows(specs: Path, folder: Path, names: Sequence[str], *, points: int | None, toys: int, jobs: int) -> Iterator[str]:
    """Lines of the table, as they are found."""
    for name in names:
        search = load_search(specs / f"{name}.yaml")
        assert isinstance(search, LoadedSearch)
        run = folder / name.replace("/", "_")
        run_search(search, run, points=points, jobs=jobs)
        five = inject(run, points=5, strengths=STRENGTHS, n_toys=toys, seed=1, n_threads=jobs)
        yield row(name, five, inject(run, points=None, strengths=STRENGTHS[:1], n_toys=0, seed=1, n_threads=jobs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--specs", type=Path, default=Path(__file__).parent.parent / "specs")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--toys", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("names", nargs="*", metavar="SPEC")
    options = parser.parse_args()
    options.output.mkdir(exist_ok=True)
    print("\n".join(HEAD))
    found = rows(
        options.specs,
        options.output,
        options.names or SPECS,
        points=None if options.whole else 5,
        toys=options.toys,
        jobs=options.jobs,
    )
    for line in found:
        print(line, flush=True)
