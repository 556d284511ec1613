"""Command lines, thin."""
