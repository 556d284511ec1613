"""Networks for music, which the package demucs ships and whose weights it fetches itself."""

from __future__ import annotations

import importlib.util
from typing import Literal

from sepnet.artifact.build import shorten
from sepnet.ranges import Fraction
from sepnet.separators.demucs import Demucs
from sepnet.types import SepnetError

DemucsName = Literal["htdemucs", "htdemucs_ft", "htdemucs_6s", "hdemucs_mmi", "mdx", "mdx_extra"]


def load_demucs(*, name: DemucsName = "htdemucs", overlap: Fraction = 0.25) -> Demucs:
    """Load a network by its name in the package demucs, which fetches the weights once and keeps them.

    The names are those of the package's authors alone, so that nobody else's files are read by it.

    Args:
        name: Of the network. ``htdemucs_ft`` takes four times as long as ``htdemucs``; ``htdemucs_6s`` also
            has guitar and piano.
        overlap: See ``Demucs``.

    Returns:
        The separator.

    Raises:
        SepnetError: The package is not installed, or the weights can't be fetched.
    """
    if importlib.util.find_spec("demucs") is None:
        raise SepnetError("Demucs is not installed: pip install 'sepnet[music]'")
    from demucs.pretrained import get_model

    try:
        model = get_model(name)
    except Exception as error:  # its repositories raise what they meet
        raise SepnetError(
            f"the weights of {name} can't be fetched ({type(error).__name__}: {shorten(error)[:120]}): "
            "connect to the network once, after which they are kept"
        ) from error
    return Demucs(model, overlap=overlap)
