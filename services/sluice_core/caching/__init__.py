"""Answers that are given again: which requests are the same, whose they are, how long they are kept."""
