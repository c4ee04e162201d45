"""What producers and agents import."""
