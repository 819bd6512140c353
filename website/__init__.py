"""What the documentation site has beyond its pages: `mkdocs build` calls `hooks`."""
