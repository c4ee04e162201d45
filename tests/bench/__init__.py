"""Benchmarks: `make bench`. One JSON object a line; CPU is the operating system's count, per process."""
