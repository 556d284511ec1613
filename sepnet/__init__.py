"""sepnet: train, evaluate and run audio source separation."""
