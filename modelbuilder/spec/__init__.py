"""What a user may write: models, loading with line numbers, variants, units, grids."""
