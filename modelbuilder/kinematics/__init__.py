"""Simulation of e+e- events: beams, processes, detector response, selection, histograms.

Import from the modules: `beams`, `response`, `selection`, `processes`, `simulate`, `resolution`. None of them imports
numba; `simulate` does so when a simulation is run.
"""
