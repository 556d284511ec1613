"""Signal processing that knows nothing of learning."""
