"""What was spent, and what is held because nobody knows yet."""
