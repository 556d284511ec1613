"""Separation with several microphones: instantaneous (FastICA) and in rooms (AuxIVA, ILRMA)."""
