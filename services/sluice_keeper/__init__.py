"""The keeper process: one file a task."""
