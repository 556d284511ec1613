"""Query by example: a tagger finds a sound in a mixture, and a mask pulls it out."""
