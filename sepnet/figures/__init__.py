"""Drawings of signals for every part of sepnet: spectrograms, and what a query found."""
