"""The figure tau_x.png: `python docs/figures/tau_x.py`, in the root of the repository.

The energy of the electron in tau -> e alpha for some masses of alpha, beside that in tau -> e nu nubar, as the search of
Belle II sees it: in the rest frame that the three pions of the other tau suggest, after the detector. Each has unit area.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from modelbuilder.histograms.look import point_at
from modelbuilder.histograms.samples import Sample
from modelbuilder.histograms.simulate import Simulation
from modelbuilder.histograms.templates import FloatArray
from modelbuilder.kinematics.sample import NOMINAL
from modelbuilder.publish import style
from modelbuilder.spec.load import load_search
from modelbuilder.spec.search import SIGNAL
from modelbuilder.theory.constants import ELECTRON_MASS
from modelbuilder.theory.tau_alp import lepton_energy

HERE = Path(__file__).parent
SPEC = HERE.parents[1] / "specs" / "belle2" / "tau_to_e_alpha.yaml"
EVENTS = 400_000
MASSES = {0.001: style.COLOURS[2], 0.5: style.COLOURS[1], 1.0: style.COLOURS[4], 1.6: style.COLOURS[0]}


def main() -> None:
    events = [f"{sample}.events={EVENTS}" for sample in ("signal", "backgrounds.irreducible")]
    search = load_search(SPEC, overrides=[*events, "channels.spectrum.bins=80"])
    simulation = Simulation(search)
    (region,) = simulation.regions.values()
    edges = region.binning.edges

    def density(sample: Sample) -> FloatArray:
        values = sample.select(edges, {}).histograms[NOMINAL].values
        return values / np.sum(values * np.diff(edges))

    with style.house_style():
        figure = Figure()
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        background = density(simulation.sample("irreducible", region))
        axes.stairs(background, edges, color="0.8", fill=True, zorder=0, label=r"$\tau \to e \nu \bar{\nu}$")
        for mass, colour in MASSES.items():
            sample = simulation.sample(SIGNAL, region, point_at(search, (mass,)))
            label = rf"$m_\alpha$ = {0.0 if mass < 0.01 else mass:g} GeV"
            axes.stairs(density(sample), edges, color=colour, lw=1.6, label=label)
            true = lepton_energy(mass, ELECTRON_MASS)
            axes.axvline(true, color=colour, lw=1, ls=(0, (2, 2)), label="in the true frame" if mass == 1.6 else None)
        axes.set_axisbelow(False)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel(r"$x = 2E_e / m_\tau$, pseudo-rest frame")
        axes.set_ylabel("density")
        axes.legend(loc="upper right")
        style.label(axes, search.spec.experiment.title, "simulation", "")
        figure.savefig(HERE / "tau_x.png", metadata={"Software": None}, bbox_inches="tight")


if __name__ == "__main__":
    main()
