"""The figure tau_x.png: `python docs/figures/tau_x.py`, in the root of the repository.

The energy of the electron in tau -> e alpha for some masses of alpha, beside that in tau -> e nu nubar, as the search of
Belle II sees it: in the rest frame that the three pions of the other tau suggest, after the detector. Each has unit area.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from modelbuilder.histograms.look import point_at
from modelbuilder.histograms.simulate import Simulation
from modelbuilder.kinematics.sample import NOMINAL
from modelbuilder.publish import style
from modelbuilder.spec.load import load_search
from modelbuilder.spec.search import SIGNAL
from modelbuilder.theory.constants import ELECTRON_MASS
from modelbuilder.theory.tau_alp import lepton_energy

HERE = Path(__file__).parent
SPEC = HERE.parents[1] / "specs" / "belle2" / "tau_to_e_alpha.yaml"
EVENTS = 400_000


def main() -> None:
    search = load_search(
        SPEC, overrides=[f"signal.events={EVENTS}", f"backgrounds.irreducible.events={EVENTS}", "channels.spectrum.bins=80"]
    )
    simulation = Simulation(search)
    (region,) = simulation.regions.values()
    edges = region.binning.edges
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with style.house_style():
        figure, axes = plt.subplots()
        for colour, mass in zip((style.COLOURS[2], style.COLOURS[1], style.COLOURS[4], style.COLOURS[0]), (0.001, 0.5, 1.0, 1.6), strict=True):
            sample = simulation.sample(SIGNAL, region, point_at(search, (mass,)))
            values = sample.select(edges, {}).histograms[NOMINAL].values
            text = "0" if mass < 0.01 else f"{mass:g}"
            axes.stairs(values / values.sum() * len(values) / (edges[-1] - edges[0]), edges, color=colour, lw=1.6, label=rf"$m_\alpha$ = {text} GeV")
            axes.axvline(lepton_energy(mass, ELECTRON_MASS), color=colour, lw=1, ls=(0, (2, 2)))
        values = simulation.sample("irreducible", region).select(edges, {}).histograms[NOMINAL].values
        axes.stairs(values / values.sum() * len(values) / (edges[-1] - edges[0]), edges, color="0.75", fill=True, label=r"$\tau \to e \nu \bar{\nu}$")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0.0, axes.get_ylim()[1] * 1.05)
        axes.set_xlabel(r"$x = 2E_e / m_\tau$, pseudo-rest frame")
        axes.set_ylabel("density")
        axes.legend(loc="upper right")
        style.label(axes, search.spec.experiment.title, "simulation", "")
        figure.savefig(HERE / "tau_x.png", metadata={"Software": None}, bbox_inches="tight")


if __name__ == "__main__":
    main()
