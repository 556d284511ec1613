"""Work in threads whose results are taken in order, with a bounded number of them in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], *, max_ahead: int
) -> Iterator[Result]:
    """Call a function for each item in the threads of a pool.

    ``ThreadPoolExecutor.map`` submits all items at once: its memory grows with their number, and with the
    results where these are taken more slowly than they are made.

    Args:
        pool: The threads.
        function: Called for each item.
        items: The items.
        max_ahead: The number of items that are in work, or done and not taken yet.

    Yields:
        The results, in the order of the items.
    """
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= max_ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
