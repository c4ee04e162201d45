"""Whose turn it is: which class gets the next slot."""
