"""Where a job goes: candidates, conditions, strategies, breakers."""
