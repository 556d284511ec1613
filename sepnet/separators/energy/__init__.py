"""Separation by gradient descent on an energy of cluster signatures."""
