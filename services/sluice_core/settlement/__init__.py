"""Joins a job, how its call went and what that cost into one settlement."""
