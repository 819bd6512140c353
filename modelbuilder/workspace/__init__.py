"""From templates and the systematics table to a HistFactory workspace."""
