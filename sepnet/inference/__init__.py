"""From a recording to its sources: one pipeline for the library, the command line, the server and the evaluator."""

from sepnet.inference.api import find, separate

__all__ = ["find", "separate"]
