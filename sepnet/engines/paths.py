"""Check that the machines of an engine see the files of a job, before work begins."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepnet.engines.engine import Engine


@dataclass(frozen=True)
class PathProbe:
    """Says which files are not on a machine, or other than expected there.

    Attributes:
        n_bytes: The size of each file; None for a folder.
    """

    n_bytes: Mapping[str, int | None]

    def __call__(self) -> list[str]:
        """Return a sentence for each file that is not there."""
        complaints = []
        for path, expected in self.n_bytes.items():
            try:
                size = os.stat(path).st_size  # noqa: PTH116
            except OSError as error:
                complaints.append(
                    f"can't see {path} ({error.strerror}): put it where all machines have the same path"
                )
                continue
            if expected is not None and size != expected:
                complaints.append(f"see {size} bytes in {path}, which has {expected} here: share one folder")
        return complaints


def check_paths(engine: Engine, inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Refuse a job whose files some machine doesn't see.

    Args:
        engine: Where the workers are.
        inputs: Files and folders that are read.
        outputs: Folders that are written to. A mark is put there meanwhile, or into the nearest folder above
            that exists, because a machine may have a folder of its own with that name.

    Raises:
        SepnetError: A machine does not see one of them; the message names both.
    """
    with contextlib.ExitStack() as stack:
        marks = []
        for folder in outputs:
            existing = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
            mark = stack.enter_context(tempfile.NamedTemporaryFile(prefix=".sepnet-", dir=existing))
            marks.append(Path(mark.name))
        paths = (*marks, *inputs)
        engine.check(
            PathProbe({str(path): path.stat().st_size if path.is_file() else None for path in paths})
        )
