"""Folders of other toolkits, read as models of sepnet.

published.py    what a reader returns
settings.py     the settings of a model, checked as they are taken
pickled.py      the safe reading of files of torch.save
plain_yaml.py   the safe reading of YAML, and of the head of a card
asteroid.py     asteroid: pytorch_model.bin; its networks are in asteroid_networks.py
speechbrain.py  speechbrain: hyperparams.yaml, encoder.ckpt, masknet.ckpt, decoder.ckpt; its networks are in
                speechbrain_networks.py, and what a YAML describes in speechbrain_yaml.py
clearvoice.py   clearvoice: last_best_checkpoint.pt
look2hear.py    look2hear (TIGER): config.json, model.safetensors
convert.py      writes what a reader returned as a run folder, once for each content

A reader is a module with ``TOOLKIT``, its name; ``FILES``, which it reads; ``recognises(folder)``, by what
the folder holds; and ``read(folder)``, which returns a ``PublishedModel`` and runs nothing of the folder's.
"""

from sepnet.artifact.formats.convert import FILES, converted, is_published, wanted

__all__ = ["FILES", "converted", "is_published", "wanted"]
