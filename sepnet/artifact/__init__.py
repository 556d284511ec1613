"""Models by name: run folders, shipped weights, files of conf/model, and the Hugging Face hub.

names.py       what a name means
folder.py      run folders: written, and loaded safely
build.py       construction from a configuration, restricted to what may be trusted
hub.py         fetches run folders from the hub; pretrained.py publishes them there
card.py        the model card
provenance.py  commit, versions and machine
paths.py       where things lie
"""

from sepnet.artifact.build import METHODS, TRUSTED, build, explain_omegaconf
from sepnet.artifact.folder import describe, load, load_trained, read_config, read_weights, save
from sepnet.artifact.names import (
    ModelSource,
    newest_run,
    preferred,
    resolve,
    run_folder,
    separates,
    shipped,
)
from sepnet.artifact.paths import (
    CARD,
    CONFIG,
    DEFAULT,
    METRICS,
    PROVENANCE,
    RUNS,
    SHIPPED,
    WEIGHTS,
    config_folder,
)
from sepnet.artifact.provenance import surroundings

__all__ = [
    "CARD",
    "CONFIG",
    "DEFAULT",
    "METHODS",
    "METRICS",
    "PROVENANCE",
    "RUNS",
    "SHIPPED",
    "TRUSTED",
    "WEIGHTS",
    "ModelSource",
    "build",
    "config_folder",
    "describe",
    "explain_omegaconf",
    "load",
    "load_trained",
    "newest_run",
    "preferred",
    "read_config",
    "read_weights",
    "resolve",
    "run_folder",
    "save",
    "separates",
    "shipped",
    "surroundings",
]
