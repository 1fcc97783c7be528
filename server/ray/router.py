"""Routes requests to replicas, by session or by the prefixes that replicas hold."""

from __future__ import annotations

from typing import Any

from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter
from ray.serve.request_router import PendingRequest, ReplicaID, RunningReplica

from server.ray.expected_blocks import ExpectedBlocks
from server.ray.forwarding import ForwardedRequest
from server.ray.ranking import MAX_LEAD, ReplicaLoad, rank
from server.ray.routing_stats import RoutingStats


class PrefixRouter(ConsistentHashRouter):
    """A router that sends each prompt to the replica that holds its longest prefix.

    If that replica is busy, the prompt goes to the least loaded one.

    Requests with a session ID go instead to the replica that Ray's ConsistentHashRouter assigns to the session.
    """

    def initialize_state(self, max_lead: int = MAX_LEAD, **options: Any) -> None:
        """Set the options, which Ray's configuration holds in `request_router_kwargs`.

        max_lead: see `rank`.
        options: options of ConsistentHashRouter.
        """
        super().initialize_state(**options)
        self._max_lead = max_lead
        self._expected: dict[ReplicaID, ExpectedBlocks] = {}
        self._reports: dict[ReplicaID, tuple[Any, RoutingStats, frozenset[bytes]]] = {}

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Set the current replicas, and forget removed ones."""
        super().update_replicas(replicas)
        known = {replica.replica_id for replica in replicas}
        for memory in (self._expected, self._reports):
            for gone in memory.keys() - known:
                del memory[gone]

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas in order of preference, each in a list of its own."""
        if pending_request is None or pending_request.metadata.session_id:
            ranks: list[list[RunningReplica]] = await super().choose_replicas(candidate_replicas, pending_request)
            return ranks
        pending_request.routing_context.should_backoff = True
        blocks = _blocks(pending_request)
        loads = [self._load(replica, blocks) for replica in candidate_replicas]
        return [[candidate_replicas[position]] for position in rank(loads, self._max_lead)]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Expect a replica to hold the blocks of a request that it has accepted."""
        self._expected.setdefault(replica_id, ExpectedBlocks()).add(_blocks(pending_request))

    def _load(self, replica: RunningReplica, blocks: tuple[bytes, ...]) -> ReplicaLoad:
        stats, reported = self._report(replica)
        expected = self._expected.setdefault(replica.replica_id, ExpectedBlocks())
        ongoing = self.replica_queue_len_cache.get(replica.replica_id)  # Ray forgets it after 10 quiet seconds
        return ReplicaLoad(
            prefix_tokens=expected.prefix_tokens(blocks, reported),
            ongoing=stats.ongoing if ongoing is None else ongoing,
            slots=stats.slots,
            token_seconds=stats.token_seconds,
            request_seconds=stats.request_seconds,
        )

    def _report(self, replica: RunningReplica) -> tuple[RoutingStats, frozenset[bytes]]:
        """Return the replica's last report, and the set of block names in it.

        The set is built once per report.
        """
        sent = replica.routing_stats
        known = self._reports.get(replica.replica_id)
        if known is None or known[0] is not sent:
            stats = RoutingStats(**sent)
            known = self._reports[replica.replica_id] = (sent, stats, stats.block_names())
        return known[1:]


def _blocks(pending_request: PendingRequest) -> tuple[bytes, ...]:
    """Return the names of the blocks in a forwarded request.

    Returns no names if the call forwards no request, such as a call of `Replica.prompt_blocks`.
    """
    argument = pending_request.args[0]
    return argument.blocks if isinstance(argument, ForwardedRequest) else ()
