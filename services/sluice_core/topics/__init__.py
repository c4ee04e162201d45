"""The broker's topics, held against what a configuration needs."""
