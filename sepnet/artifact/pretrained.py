"""Publish a separator with its files on the Hugging Face hub.

mine = sepnet.Pretrained.from_pretrained("runs/my-run")
mine.save_pretrained("a-folder"); mine.push_to_hub("me/my-separator")
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin

from sepnet.artifact.folder import load
from sepnet.artifact.hub import FILES, fetch, is_possible_name
from sepnet.artifact.names import resolve
from sepnet.paths import real
from sepnet.types import Mixture, Separation, SeparatorInfo, SepnetError


class Pretrained(ModelHubMixin):
    """A separator together with its run folder, so that both can be copied and published.

    ``save_pretrained`` and ``push_to_hub`` are those of huggingface_hub. They copy the files of the run
    folder unchanged, with the model card.

    Args:
        folder: The run folder.

    Raises:
        SepnetError: As ``sepnet.load``.

    Example:
        >>> model = Pretrained.from_pretrained("pit-2spk-8k")
        >>> model.info.n_sources
        2
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.separator = folder, load(folder)

    @property
    def info(self) -> SeparatorInfo:
        """The description of the separator."""
        return self.separator.info

    def separate(self, mixture: Mixture) -> Separation:
        """Separate as the separator itself does."""
        return self.separator.separate(mixture)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Pretrained:
        """Load a model by its name.

        Args:
            pretrained_model_name_or_path: Shipped weights, a run folder, or owner/name on the hub.
            **options: Those of ``huggingface_hub.snapshot_download``, for a model on the hub.

        Returns:
            The separator with its run folder.

        Raises:
            SepnetError: Nothing has this name, or it is a checkpoint.
        """
        name = str(pretrained_model_name_or_path)
        if name.endswith(".ckpt"):
            raise SepnetError(f"{name} is a checkpoint: name its run folder, whose best weights are taken")
        if options and not Path(name).exists() and is_possible_name(name):
            return cls(resolve(fetch(name, **options)).folder)
        return cls(resolve(name).folder)

    def _save_pretrained(self, save_directory: Path) -> None:
        for name in FILES:
            if (self.folder / name).is_file() and real(self.folder) != real(save_directory):
                shutil.copyfile(self.folder / name, save_directory / name)
