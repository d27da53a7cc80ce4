"""Several runs from one TOML file: ``plan`` resolves it, ``runner`` does it."""
