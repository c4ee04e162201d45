"""Budgets under a storm: the load, and the checker that replays every decision."""
