"""A web page and an API: python scripts/serve.py models=[pit-2spk-8k,nmf]."""

from sepnet.cli.serve import main

if __name__ == "__main__":
    main()
