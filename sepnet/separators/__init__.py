"""Methods of separation: one a file, families in folders."""
