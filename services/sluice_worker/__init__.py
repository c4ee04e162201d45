"""The worker process: one file a step."""
