"""Coverage of upper limits of a count and its sideband, exactly, as docs/statistics.md shows it.

    python benchmarks/on_off_coverage.py [--json] [--transfer X] [--cl X]

Nothing but the two counts is uncertain. Columns with `asymptotic` are limits of `modelbuilder` by asymptotic formulas for
each pair of counts; the others are sums of Poisson probabilities, see `modelbuilder.inference.on_off_coverage`.

"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.compiled_limits import compiled_upper_limits
from modelbuilder.inference.on_off_coverage import EXACT_METHODS, OnOffPairs, coverage
from modelbuilder.inference.results import LimitMethod, UpperLimit

SIGNALS = (0.5, 1.0, 2.0, 4.0, 8.0)
BACKGROUNDS = (0.0, 0.3, 1.0, 3.0)
ASYMPTOTIC: tuple[LimitMethod, ...] = ("cls", "profile-likelihood")
LEAST = 1e-7
"""Probability of a pair of counts below which it is left out of the asymptotic columns."""


def workspace(n1: int, n2: int, transfer: float) -> dict[str, Any]:
    """Events in the window are the signal strength."""
    mu, rate = ({"name": name, "type": "normfactor", "data": None} for name in ("mu", "rate"))
    signal = {"name": "signal", "data": [1.0], "modifiers": [mu]}
    inside, beside = ({"name": "background", "data": [size], "modifiers": [rate]} for size in (transfer, 1.0))
    parameters = [
        {"name": "mu", "inits": [1.0], "bounds": [[0.0, 200.0]]},
        {"name": "rate", "inits": [1.0], "bounds": [[0.0, 10.0 * (n1 + n2 + 2)]]},
    ]
    return {
        "channels": [{"name": "window", "samples": [signal, inside]}, {"name": "window_sideband", "samples": [beside]}],
        "observations": [{"name": "window", "data": [float(n1)]}, {"name": "window_sideband", "data": [float(n2)]}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": parameters}}],
        "version": "1.0.0",
    }


def asymptotic(signal: float, background: float, transfer: float, level: float, method: LimitMethod) -> float:
    """Coverage of limits by asymptotic formulas; a pair without a limit counts as not covered."""
    pairs = OnOffPairs.up_to(signal + background, background, transfer)
    chances = pairs.chances(signal, background)
    likely = [(int(n1), int(n2)) for n1, n2 in np.argwhere(chances > LEAST)]
    likelihoods = CompiledLikelihood.many([workspace(n1, n2, transfer) for n1, n2 in likely], [()] * len(likely))
    limits = compiled_upper_limits(
        [one for one in likelihoods if isinstance(one, CompiledLikelihood)], method=method, confidence_level=level
    )
    covers = [isinstance(limit, UpperLimit) and limit.observed >= signal for limit in limits]
    return float(sum(chances[pair] for pair, covered in zip(likely, covers, strict=True) if covered))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--transfer", type=float, default=0.2)
    parser.add_argument("--cl", type=float, default=0.95)
    asked = parser.parse_args()
    rows = []
    for background in BACKGROUNDS:
        for signal in SIGNALS:
            exact = coverage(signal, background, transfer=asked.transfer, confidence_level=asked.cl)
            found = {
                f"{method} asymptotic": asymptotic(signal, background, asked.transfer, asked.cl, method)
                for method in ASYMPTOTIC
            }
            rows.append({"background": background, "signal": signal, **exact, **found})
    if asked.json:
        print(json.dumps(rows, indent=1))
        return
    names = [*EXACT_METHODS, *(f"{method} asymptotic" for method in ASYMPTOTIC)]
    print("| b | s |", " | ".join(names), "|")
    print("|" + "---|" * (2 + len(names)))
    for row in rows:
        cells = " | ".join(f"{100.0 * row[name]:.1f}" for name in names)
        print(f"| {row['background']:g} | {row['signal']:g} | {cells} |")


if __name__ == "__main__":
    main()
