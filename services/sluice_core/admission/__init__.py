"""What an attempt may draw on: rates, concurrency and budgets, exact over all workers together."""
