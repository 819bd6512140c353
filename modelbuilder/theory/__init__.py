"""One file per model: cross section, width, and the way from a cross section to a coupling."""
