"""Compares ways to route requests in simulated fleets under a multi-turn load.

Replicas prefill prompts and decode answers at speeds that were measured on one machine, and each has a prefix cache of
limited size. The router that follows prefixes is that of the Ray Serve application.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from zlib import crc32

from benchmarks.conversations import Load, Result
from benchmarks.simulated_fleet import Costs, Fleet, Replica, Request, Router
from server.ray.ranking import MAX_LEAD, ReplicaLoad, rank


def round_robin() -> Router:
    """Return a router that takes the replicas in turn."""
    turn = -1

    def route(replicas: Sequence[Replica], request: Request) -> int:
        nonlocal turn
        turn = (turn + 1) % len(replicas)
        return turn

    return route


def least_connections() -> Router:
    """Return a router that takes a replica with the fewest requests."""
    draw = random.Random(0)
    return lambda replicas, request: min(range(len(replicas)), key=lambda i: (replicas[i].ongoing, draw.random()))


def session_hash() -> Router:
    """Return a router that keeps a conversation on one replica."""
    return lambda replicas, request: crc32(str(request.conversation).encode()) % len(replicas)


def prefixes() -> Router:
    """Return a router that follows prefixes as the Ray Serve application does."""

    def route(replicas: Sequence[Replica], request: Request) -> int:
        costs = replicas[0].costs
        seconds = request.answer * (costs.step / costs.slots + costs.row)
        loads = [
            ReplicaLoad(each.expected_prefix(request.conversation), each.ongoing, costs.slots, costs.token, seconds)
            for each in replicas
        ]
        return rank(loads, MAX_LEAD)[0]

    return route


ROUTERS: dict[str, Callable[[], Router]] = {
    "round robin": round_robin,
    "least connections": least_connections,
    "session hash": session_hash,
    "prefixes": prefixes,
}


def main() -> None:
    """Print a table for each number of replicas."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=[8, 32, 128, 256], help="(default: 8 32 128 256)")
    parser.add_argument("--clients", type=float, default=6, help="clients per replica (default: 6)")
    parser.add_argument("--conversations", type=float, default=12, help="conversations per replica (default: 12)")
    parser.add_argument("--think", type=float, default=10, help="seconds between turns (default: 10)")
    for name, default in {"turns": 6, "system": 1200, "user": 150, "answer": 120}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    for name in ("token", "step", "row"):
        default = getattr(Costs(), name)
        parser.add_argument(f"--{name}-seconds", type=float, default=default, help=f"(default: {default:.4f})")
    options = parser.parse_args()
    costs = Costs(options.token_seconds, options.step_seconds, options.row_seconds)
    print("| replicas | routing | computed tokens | of the least | TTFT median | TTFT p95 |")
    print("|---|---|---|---|---|---|")
    for replicas in options.replicas:
        load = Load(
            conversations=round(options.conversations * replicas),
            clients=round(options.clients * replicas),
            turns=options.turns,
            think=options.think,
            system=options.system,
            user=options.user,
            answer=options.answer,
        )
        _show(replicas, {name: Fleet(replicas, load, costs, router()).run() for name, router in ROUTERS.items()})


def _show(replicas: int, results: dict[str, Result]) -> None:
    least = min(result.computed_tokens for result in results.values())
    for name, result in results.items():
        print(
            f"| {replicas} | {name} | {result.computed_tokens:,} | {result.computed_tokens / least:.2f} | "
            f"{result.ttft:.1f} s | {result.ttft_p95:.1f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
