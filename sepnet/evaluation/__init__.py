"""Separators times mixtures, to rows, to a report."""
