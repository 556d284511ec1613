"""The interface of engines, and the settings that choose one.

An engine is a file here: it maps a worker over items and gives the results as they come. It knows nothing of
sound.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, TypeVar, runtime_checkable

from annotated_types import Ge, Le

from sepnet.ranges import Name, NonNegativeFloat
from sepnet.settings import check_fields
from sepnet.types import SepnetError

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkersLostError(SepnetError):
    """A process was killed, and the engine can't tell which item it worked on."""


@dataclass(frozen=True)
class LostItem:
    """Stands for the result of an item whose worker was killed each time.

    Attributes:
        reason: What became of the worker.
    """

    reason: str


@runtime_checkable
class Engine(Protocol):
    """Where the items of a job are worked on."""

    def n_processors(self) -> int:
        """Return how many workers with one thread each can work at the same time."""
        ...

    def check(self, probe: Callable[[], Sequence[str]]) -> None:
        """Call a function on every machine that has workers, before work begins.

        Args:
            probe: Picklable. Returns what is wrong on the machine, such as paths that are not there.

        Raises:
            SepnetError: Something is wrong on a machine.
        """
        ...

    def map(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        *,
        n_workers: int,
        n_threads: int | None = 1,
    ) -> Generator[tuple[int, Result | LostItem], None, None]:
        """Work on each item, and give the results as they come.

        Args:
            make_worker: Makes the function that works on an item, once in each worker. It is picklable, and
                so are items and results.
            items: What is worked on, in this order.
            n_workers: The number of workers.
            n_threads: The number of threads with which each computes; None leaves it to PyTorch.

        Yields:
            The index of an item, and its result, in any order.

        Raises:
            WorkersLostError: A worker was killed, and its items can't be tried again.
            Exception: What a worker has raised; the other items are then given up.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Where work is done.

    Attributes:
        engine: ``local`` for processes of this machine, ``ray`` for workers of a Ray cluster.
        n_processes: The number of workers; 0 computes in this process; None leaves it to the command.
        address: Of a running Ray cluster; None starts one on this machine that ends with the command.
        gpus_per_worker: The share of a GPU that Ray reserves for each worker.

    Raises:
        SepnetError: Two settings exclude each other.
    """

    engine: Literal["local", "ray"] = "local"
    n_processes: Annotated[int, Ge(0), Le(100_000)] | None = None
    address: Name | None = None
    gpus_per_worker: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.engine == "local" and (self.address is not None or self.gpus_per_worker):
            name = "address" if self.address is not None else "gpus_per_worker"
            raise SepnetError(f"{name}= is for engine=ray: add engine=ray, or leave {name}= out")
        if self.engine == "ray" and self.n_processes == 0:
            raise SepnetError("n_processes=0 computes in this process: give 1 or more with engine=ray")


@contextmanager
def open_engine(settings: EngineSettings) -> Iterator[Engine]:
    """Provide the engine of some settings, and end what it has started.

    Args:
        settings: Which engine, and with what.

    Raises:
        SepnetError: Ray is not installed, or the cluster can't be used.
    """
    if settings.engine == "local":
        from sepnet.engines.local import LOCAL

        yield LOCAL
        return
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise SepnetError(
            "engine=ray needs Ray, which is not installed: pip install 'sepnet[ray]'"
        ) from error
    from sepnet.engines.ray_cluster import ray_cluster

    with ray_cluster(settings) as engine:
        yield engine
