"""Over the grid: run, store, resume; one row per grid point and method."""
