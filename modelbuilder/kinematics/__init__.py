"""Simulation of e+e- events: beams, processes, detector response, selection, histograms.

Import from the modules. Three photons, from generator to histogram: `processes`, `response`, `selection`, `simulate`,
`resolution`. Any decay chain, true momenta and decay points: `topology` (what is written), `chain` (events and
weights), `phase_space` (volumes); then `measure` (detector), `observables`, `cuts`. Both: `beams`, `shards`. None of
them imports numba before a simulation is run. Files with a leading underscore are kernels.
"""
