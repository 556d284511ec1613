"""From a recording to its sources: one pipeline for library, command line, server and evaluator."""

from sepnet.inference.api import find, separate

__all__ = ["find", "separate"]
