"""From a recording to its sources: one pipeline for library, command line, server and evaluator."""

from sepnet.inference.api import find, separate
from sepnet.inference.pipeline import Pipeline, PipelineSettings

__all__ = ["Pipeline", "PipelineSettings", "find", "separate"]
