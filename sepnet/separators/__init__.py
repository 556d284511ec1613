"""Methods of separation, one a file."""
