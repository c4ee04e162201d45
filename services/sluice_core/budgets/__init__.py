"""Budgets as operators and finance see them: looking, changing caps, one-off money, alerts."""
