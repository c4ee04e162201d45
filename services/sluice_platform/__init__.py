"""The ground that every process stands on; it knows no business words."""
