"""A separator with its files, to publish it on the Hugging Face hub.

mine = sepnet.Pretrained.from_pretrained("runs/my-run")
mine.save_pretrained("a-folder"); mine.push_to_hub("me/my-separator")
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin

from sepnet.artifact.folder import load
from sepnet.artifact.hub import FILES, could_be_named, fetch
from sepnet.artifact.names import resolve, run_folder
from sepnet.types import Mixture, Separation, SeparatorInfo, SepnetError


class Pretrained(ModelHubMixin):
    """A separator with the files that it was loaded from, to be saved elsewhere and published.

    It separates like the separator itself. ``save_pretrained`` and ``push_to_hub`` are those of
    huggingface_hub: the folder, its model card included, goes there as it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.separator = folder, load(folder)

    @property
    def info(self) -> SeparatorInfo:
        """What the separator says of itself."""
        return self.separator.info

    def separate(self, mixture: Mixture) -> Separation:
        """As the separator's."""
        return self.separator.separate(mixture)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Pretrained:
        """From a shipped name, a run folder, or a name on the hub; options: as for ``fetch``."""
        name = str(pretrained_model_name_or_path)
        if name.endswith(".ckpt"):
            raise SepnetError(f"{name} is a checkpoint: name its run folder, whose best weights are taken")
        if options and not Path(name).exists() and could_be_named(name):
            return cls(run_folder(fetch(name, **options)))
        return cls(resolve(name).folder)

    def _save_pretrained(self, save_directory: Path) -> None:
        for name in FILES:
            if (self.folder / name).is_file() and self.folder.resolve() != save_directory.resolve():
                shutil.copyfile(self.folder / name, save_directory / name)
