"""Whether the whole installation can keep its promises, and what to do where it cannot."""
