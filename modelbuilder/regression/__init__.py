"""Specs under test: what changed between two of anything, expectations of a spec, lock files, the pytest plugin."""
