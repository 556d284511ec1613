"""Query by example: an example of a sound finds it in a mixture, and a mask pulls it out."""
