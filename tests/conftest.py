"""Small corpora. With CHECK_ANNOTATIONS=1, as make test-all sets it, annotations are checked in every call:
shapes by jaxtyping, types by beartype, at a fifth of the time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import soundfile
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

# A shell that runs the tests in its background has them ignore Ctrl-C, which some of them send.
signal.signal(signal.SIGINT, signal.default_int_handler)

CHECK_ANNOTATIONS = os.environ.get("CHECK_ANNOTATIONS", "") == "1"
# An int will do for a float, as PEP 484 has it: YAML writes 3 for 3.0.
typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))
if CHECK_ANNOTATIONS:
    install_import_hook("sepnet", "conftest.typecheck")  # before anything of sepnet is imported

from sepnet.data.indexing import index  # noqa: E402
from sepnet.data.manifest import Manifest  # noqa: E402

RATE = 8000


@pytest.fixture
def unchecked_annotations() -> Iterator[None]:
    """For what breaks annotations on purpose."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def write_corpus(
    root: Path,
    files: Mapping[str, np.ndarray],
    *,
    sample_rate: int = RATE,
    subtype: str = "FLOAT",
    layout: str = "speakers",
) -> Manifest:
    """Writes {relative path: samples} as sound files under ``root``, and indexes them.

    Paths are <split>/<speaker>/<name>, or with layout="stems" <split>/<track>/<stem>.
    """
    for path, samples in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / path, samples.T, sample_rate, subtype=subtype)
    return index(root, layout=layout, progress=False)[0]


def white_noise(samples: int, seed: int = 0, rms: float = 0.1) -> np.ndarray:
    """(time,) in float32."""
    return (rms * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
