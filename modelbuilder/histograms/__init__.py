"""Templates: from a search to expected events per bin, nominal and varied."""
