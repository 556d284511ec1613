"""Whether a command has the GPUs that its settings ask for."""

from __future__ import annotations

from sepnet.engines import EngineSettings
from sepnet.inference.pipeline import PipelineSettings
from sepnet.types import SepnetError


def check_devices(workers: EngineSettings, pipeline: PipelineSettings) -> None:
    """Check that the GPUs of the workers and the device of the networks go together.

    Args:
        workers: Where work is done.
        pipeline: With the device.

    Raises:
        SepnetError: This machine has no GPU, no share of one is reserved, or one is that nothing uses.
    """
    if workers.engine == "local":
        pipeline.check_device()
    elif pipeline.device == "cuda" and not workers.gpus_per_worker:
        raise SepnetError(
            "device=cuda, but Ray gives workers no GPU without being asked: add gpus_per_worker=1, or a share"
        )
    elif pipeline.device == "cpu" and workers.gpus_per_worker:
        raise SepnetError(
            f"gpus_per_worker={workers.gpus_per_worker:g} reserves GPUs, but device=cpu uses none: add "
            "device=cuda, or leave gpus_per_worker out"
        )
