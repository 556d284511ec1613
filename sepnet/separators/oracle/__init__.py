"""Oracle masks, which see the true sources: the ceiling of every table."""
