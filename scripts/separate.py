"""Separate sound files: python scripts/separate.py mix.wav model=runs/my-run."""

from sepnet.cli.separate import main

if __name__ == "__main__":
    main()
