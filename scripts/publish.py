"""Put the tables of finished runs into the README: python scripts/publish.py evaluation=... curves=[...]."""

from sepnet.cli.publish import main

if __name__ == "__main__":
    main()
