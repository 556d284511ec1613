"""Random inputs for benchmarks/fuzz.py, and processes that can be killed for benchmarks/kills.py."""
