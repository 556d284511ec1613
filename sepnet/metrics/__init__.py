"""Measures of separation, each a pure, batched function."""
