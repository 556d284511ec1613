"""Engines: where the items of a long job are worked on, in processes of this machine or on a Ray cluster."""

from sepnet.engines.engine import Engine, EngineSettings, LostItem, WorkersLostError, open_engine
from sepnet.engines.local import LOCAL

__all__ = ["LOCAL", "Engine", "EngineSettings", "LostItem", "WorkersLostError", "open_engine"]
