"""Fetch, index and draw from a corpus: python scripts/prepare_data.py corpus=folder root=/my/wavs."""

from sepnet.cli.prepare import main

if __name__ == "__main__":
    main()
