"""Policies: what jobs of a caller may do, and which rule says so."""
