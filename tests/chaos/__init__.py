"""The crash test in its long form: `make chaos`."""
