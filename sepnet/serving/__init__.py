"""The web page and its API: ``sepnet serve``, or from a program

    from sepnet.serving import running

    with running(["nmf"]) as address:
        ...

A request passes through these modules in turn:

request_filter  which addresses exist, and how much may be sent
routes          plain HTTP: the API, and the files of the page
page, handlers  the page and its events, made with Gradio
job_queue       when a request is computed
separation      a request with its uploads -> its sources, through ``inference.Pipeline``
result_files    sources as WAV files, a manifest and a zip archive
result_store    the files of results, in memory for a while
mixer, waveform a result as HTML: waveforms, spectrograms, a player, scores

models, limits and uploads are shared by these; app combines them, and server runs the app at an address.
"""

from sepnet.serving.limits import Limits
from sepnet.serving.server import running, serve

__all__ = ["Limits", "running", "serve"]
