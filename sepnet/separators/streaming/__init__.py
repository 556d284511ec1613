"""Separation hop by hop: one method a file; sepnet.streaming feeds them blocks of any size."""
