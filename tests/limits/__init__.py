"""Limits, turns and classes under load: the floods that press on them, and what is measured of them."""
