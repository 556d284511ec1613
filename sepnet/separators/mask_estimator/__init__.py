"""Masks that a network estimates: the model, its training objectives, and its hop-by-hop form."""
