"""The figure of a simulated sample."""

from __future__ import annotations

from pathlib import Path

from modelbuilder.histograms.look import Look
from modelbuilder.publish.simulation import SimulatedObservable, draw_observable
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.search import SIGNAL


def draw_look(path: Path, search: LoadedSearch, look: Look) -> list[Path]:
    """Draw the observable with its fitted peak; the files. Raises UserError where nothing can be written."""
    last = look.flow[-1]
    return draw_observable(
        path,
        SimulatedObservable(
            experiment=search.spec.experiment.title,
            search=search.spec.name,
            process=look.process,
            point=look.point.text if look.sample == SIGNAL else "",
            label=look.axis.label,
            unit=look.axis.unit,
            edges=look.edges,
            values=look.nominal.values,
            variances=look.nominal.variances,
            fit=look.fit,
            no_fit=look.no_fit,
            efficiency=(last.efficiency, last.efficiency_stdev),
            varied={name: (up.values, down.values) for name, (up, down) in look.varied.items()},
        ),
    )
