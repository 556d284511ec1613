"""Evaluate separators: python scripts/eval.py. All settings are in conf/eval.yaml."""

from sepnet.cli.evaluate import main

if __name__ == "__main__":
    main()
