"""Non-negative matrix factorisation: blind, supervised and online."""
