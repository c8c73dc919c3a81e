"""Work that a cluster of Ray does; nothing else of fewscan imports Ray.

Every machine of the cluster has fewscan installed and sees the same files under the same paths.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fewscan.errors import ConfigError
from fewscan.extras import require
from fewscan.registry import bring_parts
from fewscan.work.attempts import Attempts, Part
from fewscan.work.base import Doing, Item, Outcome, Result, Shard, Work
from fewscan.work.worker import Surroundings, surroundings


@dataclass(frozen=True)
class Ray:
    """The actors of a cluster, one after the other's shard.

    Attributes:
        address: Address of the cluster's head, or "auto" for the one that this machine is of; None: a cluster of this
            machine alone, for as long as the process lasts.
        count: Number of actors; None: as many as the cluster has processors, or GPUs where each takes one.
        gpus: Number of GPUs that each actor takes, 0 or 1.
    """

    address: str | None = None
    count: int | None = None
    gpus: int = 0

    def run(
        self, work: Work[Item, Result], shards: Iterable[Shard[Item]], progress: Callable[[], None] | None = None
    ) -> Iterator[Outcome[Item, Result]]:
        """Do shards; see `Executor.run`.

        Raises:
            ConfigError: Ray is not installed, or there is no cluster at the address.
        """
        ray = self._connected()
        attempts: Attempts[Item, Result] = Attempts(shards, progress)
        actor = ray.remote(num_cpus=1, num_gpus=self.gpus, max_restarts=0, max_task_retries=0)(_Actor)
        sent = ray.put((surroundings(), pickle.dumps(work)))
        most, made = self.count or self._room(ray), 0
        idle: list[Any] = []
        busy: dict[Any, tuple[Any, Part[Item]]] = {}
        try:
            while True:
                while (idle or len(busy) < most) and (part := attempts.take()) is not None:
                    if idle:
                        member = idle.pop()
                    else:
                        member = actor.remote(made, sent)
                        made += 1
                    busy[member.do.remote(part.items)] = (member, part)
                while idle:
                    # What has nothing to do makes room for those that wait for a machine in the place of a lost one.
                    ray.kill(idle.pop())
                if not busy:
                    return
                (done,), _ = ray.wait(list(busy), num_returns=1)
                member, part = busy.pop(done)
                try:
                    results = ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    # Killed, out of memory, or its machine is lost: Ray's words for it are a page.
                    yield from attempts.fail(part, f"was lost ({type(error).__name__})")
                else:
                    idle.append(member)
                    yield from attempts.finish(part, results)
        finally:
            for member in [*idle, *(member for member, _ in busy.values())]:
                ray.kill(member)

    def _connected(self) -> Any:
        ray = require("ray")
        if not ray.is_initialized():
            try:
                ray.init(
                    address=self.address, log_to_driver=False, include_dashboard=False if self.address is None else None
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                where = f"ray:{self.address}" if self.address is not None else "ray"
                raise ConfigError(f"--executor {where}: no cluster can be had there: {error}") from None
        return ray

    def _room(self, ray: Any) -> int:
        has = ray.cluster_resources()
        return max(1, int(has.get("GPU", 0) if self.gpus else has.get("CPU", 1)))


class _Actor:
    """A process of the cluster; the work is unpickled once it knows where to import from."""

    def __init__(self, number: int, sent: tuple[Surroundings, bytes]) -> None:
        (path, parts), pickled = sent
        sys.path.extend(folder for folder in path if folder not in sys.path)
        bring_parts(parts)
        # It comes from the process that started this one, by the cluster's own way, which is as good as its code.
        work: Work[Any, Any] = pickle.loads(pickled)  # noqa: S301
        self._doing: Doing[Any, Any] = work.open(number)

    def do(self, items: Sequence[Any]) -> list[Any]:
        """Results of a shard's items."""
        return list(self._doing(items))
