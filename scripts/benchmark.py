"""Measure sepnet's speed: python scripts/benchmark.py what=mixing."""

from sepnet.cli.benchmark import main

if __name__ == "__main__":
    main()
