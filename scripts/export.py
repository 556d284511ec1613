"""Write a trained model for other programs: python scripts/export.py model=pit-2spk-8k out=pit.onnx."""

from sepnet.cli.export import main

if __name__ == "__main__":
    main()
