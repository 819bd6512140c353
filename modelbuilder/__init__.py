"""Config-as-code for the statistics of dark-sector searches at B factories."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
__all__ = ["__version__"]
