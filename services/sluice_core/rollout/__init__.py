"""Versions of the configuration that were applied."""
