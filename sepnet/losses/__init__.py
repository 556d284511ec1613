"""Losses, each a negated measure or a distance."""
