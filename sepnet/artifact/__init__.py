"""Find, load and save models: run folders, shipped weights, files of conf/model, and the Hugging Face hub.

names.py       the lookup of names
folder.py      run folders: written, and loaded safely
averaging.py   the average of the weights of several runs
build.py       construction from a configuration, restricted to trusted packages
formats/       folders of other toolkits
music.py       networks for music of the package demucs
hub.py         downloads run folders from the hub; pretrained.py publishes them there
card.py        the model card
provenance.py  commit, versions and machine
"""

from sepnet.artifact.build import METHODS, TRUSTED, build, explain_omegaconf
from sepnet.artifact.folder import (
    Checkpoint,
    describe,
    load,
    load_trained,
    read_checkpoint,
    read_config,
    read_settings,
    read_weights,
    save,
    write_weights,
)
from sepnet.artifact.names import (
    ModelSource,
    SourceKind,
    is_separator,
    newest_run,
    preferred,
    resolve,
    run_folder,
    shipped,
)
from sepnet.artifact.provenance import describe_environment
from sepnet.paths import (
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
    "Checkpoint",
    "ModelSource",
    "SourceKind",
    "build",
    "config_folder",
    "describe",
    "describe_environment",
    "explain_omegaconf",
    "is_separator",
    "load",
    "load_trained",
    "newest_run",
    "preferred",
    "read_checkpoint",
    "read_config",
    "read_settings",
    "read_weights",
    "resolve",
    "run_folder",
    "save",
    "shipped",
    "write_weights",
]
