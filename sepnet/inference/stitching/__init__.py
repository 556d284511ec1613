"""The estimates of overlapping chunks, joined so that each source keeps its place.

chunks.py     cuts a recording into chunks, and joins what is separated of them
stitching.py  finds the order in which a chunk's estimates continue those before
timbre.py     remembers what each source sounds like
tracking.py   finds where the order changes within a chunk
"""
