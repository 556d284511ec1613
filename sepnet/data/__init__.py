"""Corpora, mixing and data sets."""
