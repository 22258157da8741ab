"""To which replica does a call of a stage go? To the one that holds the picture, if it has room.

Serve makes one router for each handle, by the class that a deployment names. It pickles this module
by value and hands it to whoever calls the deployment: hence nothing but the router is in here.
"""

import random

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from gateway.affinity import Ring

FREE_LOAD = 8
"""Requests that one replica takes before it is compared with the others: they share batches."""

LOAD_FACTOR = 1.25
"""A replica with more than so many times the mean is passed over."""


class AffinityRouter(RequestRouter):
    """Calls with the same session id go to the same replica; others to the emptier one of two.

    Serve has a router that hashes session ids. It knows no load, and of two calls of one request to
    one deployment it leaves one without a replica for ever, since it tells calls apart by the id of
    the request that they belong to; here each call is its own.
    """

    def initialize_state(self, **_settings: object) -> None:
        """Begin without replicas; called by Serve before all else."""
        self._ring = Ring[ReplicaID]({})
        self._calls: dict[int, PendingRequest] = {}

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take over which replicas there are."""
        before = frozenset(self.curr_replicas)
        super().update_replicas(replicas)
        if before != frozenset(self.curr_replicas):
            self._place()

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Forget a replica before the controller says so."""
        super().on_replica_actor_died(replica_id)
        self._place()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Rank the replicas for one call: the preferred one, then all others.

        Args:
            candidate_replicas: All that there are.
            pending_request: The call.

        Returns:
            Groups of replicas; Serve takes the emptiest of the first group that has room.
        """
        key = ""
        if pending_request is not None:
            # Where all are full, Serve shall wait before it asks again.
            pending_request.routing_context.should_backoff = True
            key = pending_request.metadata.session_id
        if len(candidate_replicas) < 2:
            return [candidate_replicas]
        first: list[RunningReplica] = []
        if key:
            chosen = self._ring.choose(key, self._load, free=FREE_LOAD, factor=LOAD_FACTOR)
            first = [replica for replica in candidate_replicas if replica.replica_id == chosen]
        first = first or random.sample(candidate_replicas, 2)
        return [first, [replica for replica in candidate_replicas if replica not in first]]

    def _place(self) -> None:
        replicas = {replica_id.unique_id: replica_id for replica_id in self.curr_replicas}
        self._ring = Ring(replicas)

    def _load(self, replica_id: ReplicaID) -> int:
        # Serve counts what it sends, and replicas tell what others sent. Of one that was asked
        # nothing for a while nothing is known.
        return self.replica_queue_len_cache.get(replica_id) or 0

    # How Serve 2.60 finds the call that a replica was chosen for.

    def _add_pending_request_to_indices(self, pending_request: PendingRequest) -> None:
        self._calls[id(pending_request.metadata)] = pending_request

    def _remove_pending_request_from_indices(self, pending_request: PendingRequest) -> None:
        self._calls.pop(id(pending_request.metadata), None)

    def _get_pending_request_matching_internal_request_id(
        self, request_metadata: object = None
    ) -> PendingRequest | None:
        call = self._calls.get(id(request_metadata))
        return None if call is None or call.future.done() else call
