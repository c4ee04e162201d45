"""Errors that end a process before it has begun to serve."""


class StartupError(Exception):
    """A process cannot start; the message says what is wrong and what to do about it."""
