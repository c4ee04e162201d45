"""Jobs: their states, and what each outcome of a call means for them."""
