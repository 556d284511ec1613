"""Stage 3: the first mask of a query, one method a file. ``start.Start`` is their common interface."""
