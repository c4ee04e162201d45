"""API keys: who may sign records, and what signing grants."""
