"""Separation by frame energies: blind, and with an example of each source."""
