"""Recordings of any length: separated in chunks that overlap, and put together with each source kept apart.

chunks.py     which chunks, and what each of them gives
timbre.py     what a source has sounded like so far
stitching.py  in which order a chunk's estimates continue the ones before
tracking.py   where inside of a chunk that order changes
chunked.py    all of it around a separator
"""
