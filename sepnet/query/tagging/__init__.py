"""Stage 1: which classes a tagger recognises in an example and in each window of a mixture."""
