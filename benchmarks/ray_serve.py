"""Measures the Ray Serve application.

Measures its routing to three replicas, and its overhead compared with one plain server.

Needs the environment of requirements/ray.txt.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from statistics import median

from benchmarks.conversations import Load, Result, run
from benchmarks.fleet import prefixes, round_robin
from benchmarks.ray_cluster import START_SECONDS, fixed, ray_cluster
from benchmarks.servers import own_server
from benchmarks.simulated_fleet import Costs, Fleet, Router
from server.bench.clients import collect
from server.bench.load import Endpoint
from server.client.urls import NamedUrl
from server.ray.application import REPLICA
from tests.waiting import wait_until

STREAMS, PROMPT = 8, 16
"""The load of `overhead`. Prompts are short, because Ray costs time for each token of the answers."""
ROUND_ROBIN = "ray.serve.experimental.round_robin_router:RoundRobinRouter"


def main() -> None:
    """Run the measurement that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_serve", description=__doc__)
    parser.add_argument("part", choices=("routing", "overhead"))
    parser.add_argument("--model", type=Path, help="model folder (default: the built-in model)")
    parser.add_argument("--rounds", type=int, default=10, help="overhead: number of rounds (default: 10)")
    parser.add_argument("--answer", type=int, default=64, help="overhead: tokens of each answer (default: 64)")
    options = parser.parse_args()
    if options.part == "routing":
        routing(options.model)
    else:
        overhead(options.model, options.rounds, options.answer)


def routing(model: Path | None) -> None:
    """Compare the numbers of computed prompt tokens.

    Compares one replica, three replicas, and three with round robin.
    Each figure stands beside the simulation's prediction.
    """
    print("| replicas | router | prompt tokens | computed | ratio | predicted | measured / predicted | TTFT median |")
    print("|---|---|---|---|---|---|---|---|")
    single = _routed(model, 1, None)
    _show(1, "prefixes", single, single, prefixes())
    _show(3, "prefixes", _routed(model, 3, None), single, prefixes())
    _show(3, "round robin", _routed(model, 3, ROUND_ROBIN), single, round_robin())


def _routed(model: Path | None, replicas: int, router: str | None) -> Result:
    config = REPLICA["request_router_config"] | ({"request_router_class": router} if router else {})
    engine = {"autoscaling_config": fixed(replicas), "request_router_config": config}
    with ray_cluster(replicas, **engine, user_config=_user_config(model)) as cluster:
        wait_until(lambda: cluster.running_replicas() == replicas, START_SECONDS)
        return asyncio.run(_measure(cluster.url))


async def _measure(url: str) -> Result:
    return await run(await Endpoint.connect(NamedUrl("ray", f"{url}/v1")), Load())


def _show(replicas: int, name: str, result: Result, single: Result, router: Router) -> None:
    computed, predicted = result.computed_tokens, Fleet(replicas, Load(), Costs(), router).run().computed_tokens
    print(
        f"| {replicas} | {name} | {result.prompt_tokens} | {computed} | {computed / single.computed_tokens:.2f} | "
        f"{predicted} | {computed / predicted:.2f} | {result.ttft:.3f} s |",
        flush=True,
    )


def overhead(model: Path | None, rounds: int, answer: int) -> None:
    """Compare the throughput of 8 streams and the TTFT of one, with and without Ray."""
    cores = os.cpu_count() or 1
    with ray_cluster(1, cores, autoscaling_config=fixed(1), user_config=_user_config(model)) as cluster:
        plain, through_ray = asyncio.run(_speeds(model, f"{cluster.url}/v1", rounds, answer))
    for name, (rates, ttfts) in {"plain": plain, "Ray": through_ray}.items():
        print(f"{name}: {median(rates):.1f} tokens/s with {STREAMS} streams, TTFT {median(ttfts) * 1000:.0f} ms alone")
    ratio = median(with_ray / without for with_ray, without in zip(through_ray[0], plain[0], strict=True))
    added = median(with_ray - without for with_ray, without in zip(through_ray[1], plain[1], strict=True))
    print(f"medians of {rounds} rounds: throughput {ratio:.3f} of plain, TTFT {added * 1000:+.1f} ms")


async def _speeds(model: Path | None, ray_url: str, rounds: int, answer: int) -> list[tuple[list[float], list[float]]]:
    """Return the throughputs with STREAMS streams and the TTFTs of one stream, for the plain server and for Ray."""
    async with own_server(model) as plain:
        endpoints = [plain.endpoint, await Endpoint.connect(NamedUrl("Ray", ray_url))]
        alone = await collect(endpoints, rounds, numbers=[1], lengths=(PROMPT, 1))
        together = await collect(endpoints, rounds, numbers=[STREAMS], lengths=(PROMPT, answer))
    names = [endpoint.name for endpoint in endpoints]
    return [(together[STREAMS, name].rates, alone[1, name].ttfts) for name in names]


def _user_config(model: Path | None) -> dict[str, str]:
    return {"model": str(model)} if model else {}


if __name__ == "__main__":
    main()
