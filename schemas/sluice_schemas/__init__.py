"""The public contract as code."""
