"""Configuration: `sluice.yaml` as values, read once and checked as a whole."""
