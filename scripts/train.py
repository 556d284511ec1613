"""Train a model: python scripts/train.py model=pit data=toy. All settings are in conf/train.yaml."""

from sepnet.cli.train import main

if __name__ == "__main__":
    main()
