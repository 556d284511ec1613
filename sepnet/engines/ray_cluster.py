"""``engine=ray``: the workers of a Ray cluster, or of a Ray that is started on this machine for one command.

An item is handed only to a worker that is ready, one at a time, so that long items spread by themselves and a
worker that can't start holds nothing up. A worker that is killed is replaced, and its item is tried again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import socket
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sepnet.engines.engine import EngineSettings, Item, LostItem, Result
from sepnet.engines.local import THREAD_VARIABLES, LocalEngine, environment
from sepnet.paths import PACKAGE
from sepnet.types import SepnetError

MAX_ATTEMPTS = 3  # of an item whose worker is killed
MAX_FAILED_STARTS = 10  # of workers one after the other, before the job is given up
CONNECT_SECONDS = 10.0
OBJECT_STORE_BYTES = 100_000_000  # of a local Ray: items and results are small
LOCALLY = ("auto", "local")
cluster: Any = ray  # whose functions are typed only in part
cloudpickle = cluster.cloudpickle


class RayCluster:
    """The workers of the cluster to which this process is connected.

    Args:
        gpus_per_worker: The share of a GPU that is reserved for each worker.
    """

    def __init__(self, gpus_per_worker: float = 0.0) -> None:
        self.gpus_per_worker = gpus_per_worker

    def n_processors(self) -> int:
        """Return how many workers the processors, or the GPUs, of the cluster have room for."""
        resources = cluster.cluster_resources()
        n_workers = int(resources.get("CPU", 0))
        if self.gpus_per_worker:
            n_workers = min(n_workers, int(resources.get("GPU", 0) / self.gpus_per_worker))
        if n_workers < 1:
            raise SepnetError(
                f"the cluster has {resources.get('CPU', 0):g} processors and "
                f"{resources.get('GPU', 0):g} GPUs, "
                f"but a worker needs 1 and {self.gpus_per_worker:g}: add machines, or lower gpus_per_worker"
            )
        return n_workers

    def check(self, probe: Callable[[], Sequence[str]]) -> None:
        """Refuse machines that run other versions than this process, or about which the probe complains."""
        expected = versions()
        pickled = cloudpickle.dumps((expected, cloudpickle.dumps(probe)))
        calls = [
            (node["NodeManagerHostname"], _call_on(node, pickled, str(Path.cwd())))
            for node in self._machines()
        ]
        for machine, call in calls:
            try:
                found, complaints = ray.get(call)
            except RayTaskError as error:
                raise SepnetError(
                    f"the workers on {machine} can't be used ({_first_line(error.cause)}): "
                    "install sepnet there, too"
                ) from error
            except RayError as error:
                raise SepnetError(
                    f"the machine {machine} of the cluster does not answer: {_reason(error)}"
                ) from error
            if differing := [name for name, version in expected.items() if found.get(name) != version]:
                listed = ", ".join(f"{name} {found.get(name)} (here {expected[name]})" for name in differing)
                raise SepnetError(
                    f"the workers on {machine} have {listed}: install the same version everywhere"
                )
            if complaints:
                more = f" and {len(complaints) - 1} more" if len(complaints) > 1 else ""
                raise SepnetError(f"the workers on {machine}: {complaints[0]}{more}")

    def map(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        *,
        n_workers: int,
        n_threads: int | None = 1,
    ) -> Generator[tuple[int, Result | LostItem], None, None]:
        """Work on the items; see ``Engine``. One whose worker is killed each time becomes a ``LostItem``."""
        waiting, attempts = list(reversed(range(len(items)))), Counter[int]()
        n_open, n_failed_starts = len(items), 0
        actor_class = self._actor_class(n_threads or 1)
        arguments = ray.put((make_worker, str(Path.cwd()), n_threads or 1))
        running: dict[Any, tuple[Any, int | None]] = {}

        def start() -> None:
            actor = actor_class.remote(arguments)
            running[actor.ready.remote()] = (actor, None)

        try:
            for _ in range(min(n_workers, n_open)):
                start()
            while n_open:
                [call], _ = ray.wait(list(running), num_returns=1)
                actor, index = running.pop(call)
                result: Any = None
                try:
                    result = ray.get(call)
                    n_failed_starts = 0
                except RayTaskError as error:
                    raise error.cause from None
                except RayError as error:
                    actor, result = (
                        None,
                        LostItem(f"its worker was lost {MAX_ATTEMPTS} times: {_reason(error)}"),
                    )
                    if index is None:
                        n_failed_starts += 1
                        if n_failed_starts == MAX_FAILED_STARTS:
                            raise SepnetError(f"no worker can be started: {_reason(error)}") from error
                    else:
                        attempts[index] += 1
                        if attempts[index] < MAX_ATTEMPTS:
                            waiting.append(index)
                            index = None
                if waiting and actor is None:
                    start()
                elif waiting:
                    following = waiting.pop()
                    running[actor.work.remote(items[following])] = (actor, following)
                del actor, call  # a worker without a next item ends
                if index is not None:
                    n_open -= 1
                    yield index, result
        finally:
            for actor, _ in running.values():
                ray.kill(actor)

    def _actor_class(self, n_threads: int) -> Any:
        """The class of workers, with what is reserved for each."""
        n_processors = min(n_threads, max(int(node["Resources"]["CPU"]) for node in self._machines()))
        return cluster.remote(num_cpus=n_processors, num_gpus=self.gpus_per_worker, max_restarts=0)(_Actor)

    def _machines(self) -> list[Any]:
        """The machines on which workers can be."""
        needed = {"CPU": 1.0, "GPU": self.gpus_per_worker}
        return [
            node
            for node in cluster.nodes()
            if node["Alive"] and all(node["Resources"].get(name, 0) >= n for name, n in needed.items())
        ]


class _Actor:
    """A process of the cluster. What it works with is made for its first item, so that errors are told."""

    def __init__(self, arguments: tuple[Callable[[], Callable[[Any], Any]], str, int]) -> None:
        self._make_worker, folder, n_threads = arguments
        self._worker: Callable[[Any], Any] | None = None
        os.chdir(folder)
        import torch

        torch.set_num_threads(n_threads)

    def ready(self) -> None:
        """Return when the process has started."""

    def work(self, item: Any) -> Any:
        """Work on an item."""
        if self._worker is None:
            self._worker = self._make_worker()
        return self._worker(item)


@contextmanager
def ray_cluster(settings: EngineSettings) -> Iterator[RayCluster]:
    """Connect to a cluster, or start a Ray on this machine; disconnect or end it with the context.

    Args:
        settings: Its address, and what is reserved for a worker.

    Raises:
        SepnetError: The cluster can't be reached, or has another version of Ray or Python.
    """
    address = settings.address
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    threads = dict.fromkeys(THREAD_VARIABLES, "1")
    options: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address is None:
        n_processors = settings.n_processes or LocalEngine().n_processors()
        options |= {"num_cpus": n_processors, "include_dashboard": False, "configure_logging": False}
        options |= {"object_store_memory": OBJECT_STORE_BYTES, "address": "local"}
    else:
        options |= {"address": address, "runtime_env": {"env_vars": threads}}
        _check_address(address)
    try:
        with environment(threads):
            ray.init(**options)
    except Exception as error:  # Ray raises many kinds, also ValueError and RuntimeError
        asks_for_token = address not in (None, *LOCALLY) and "RAY_AUTH_MODE" not in os.environ
        remedy = "; if it wants a token, as Ray 2.60 does, set RAY_AUTH_MODE=token" if asks_for_token else ""
        raise SepnetError(
            f"the Ray cluster {address or 'on this machine'} can't be used: {_first_line(error)}{remedy}"
        ) from error
    try:
        yield RayCluster(settings.gpus_per_worker)
    finally:
        ray.shutdown()


def versions() -> dict[str, str]:
    """Return the versions on which results depend: of sepnet, by the text of its modules, and of PyTorch."""
    digest = hashlib.sha1()
    for module in sorted(PACKAGE.rglob("*.py")):
        digest.update(module.relative_to(PACKAGE).as_posix().encode() + b"\0" + module.read_bytes())
    return {
        "sepnet": f"{metadata.version('sepnet')} ({digest.hexdigest()[:8]})",
        "PyTorch": metadata.version("torch").partition("+")[0],
    }


def _inspect(pickled: bytes, folder: str) -> tuple[dict[str, str], list[str]]:
    """The versions on this machine, and what is wrong with it; called on each.

    The probe is unpickled only where the versions are the same, because others might not understand it.
    """
    expected, probe = cloudpickle.loads(pickled)
    found = versions()
    if found != expected:
        return found, []
    if not Path(folder).is_dir():
        return found, [f"can't see {folder}, from which the command is called: call it from a shared folder"]
    os.chdir(folder)
    return found, list(cloudpickle.loads(probe)())


def _call_on(node: Any, *arguments: Any) -> Any:
    """Start the inspection of one machine of the cluster."""
    strategy = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
    task = cluster.remote(num_cpus=1, max_retries=0, scheduling_strategy=strategy)(_inspect)
    return task.remote(*arguments)


def _check_address(address: str) -> None:
    """Refuse an address at which nothing listens; Ray itself would try for minutes."""
    if address in LOCALLY:
        return
    parts = urlsplit(address if "://" in address else f"ray-gcs://{address}")
    try:
        if parts.hostname is None or parts.port is None:
            raise ValueError
    except ValueError:
        raise SepnetError(
            f"address={address} is no address of a Ray cluster: give auto, host:6379, or ray://host:10001"
        ) from None
    try:
        socket.create_connection((parts.hostname, parts.port), CONNECT_SECONDS).close()
    except OSError as error:
        raise SepnetError(
            f"the Ray cluster {address} can't be reached ({error.strerror or error}): check the address, and "
            "that `ray status` works there"
        ) from error
    if parts.scheme == "ray" and importlib.util.find_spec("grpc") is None:
        raise SepnetError(f"address={address} needs Ray's client: pip install 'ray[client]'")


def _reason(error: Exception) -> str:
    """Why a worker is gone, in a few words instead of Ray's page."""
    if isinstance(error, OutOfMemoryError) or "memory monitor" in str(error):
        return "the memory of its machine was full"
    if isinstance(error, NodeDiedError) or "node has died" in str(error):
        return "its machine is gone"
    return "its process was killed"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
