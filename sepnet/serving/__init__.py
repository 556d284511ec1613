"""The web page and its API: ``scripts/serve.py``, or from a program

    from sepnet.serving import running

    with running(["nmf"]) as address:
        ...

limits      how much a stranger may ask for          results    what was separated, in memory for a while
gate        which requests pass at all               archive    a result as WAV files and a zip
routes      plain HTTP                               figures    waveforms and spectrograms
jobs        who computes when                        mixer      a result as HTML
models      those that the operator allowed          examples   made at the start
service     upload in, sources out                   page       Gradio's components and events
folder      where Gradio's uploads lie               handlers   what they do
"""

from sepnet.serving.limits import Limits
from sepnet.serving.server import running, serve

__all__ = ["Limits", "running", "serve"]
