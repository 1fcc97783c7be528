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
from server.bench.load import Endpoint, Stream, prompt, tokens_per_second, user
from server.client.urls import NamedUrl
from server.ray.application import REPLICA
from tests.waiting import wait_until

ROUND_ROBIN = "ray.serve.experimental.round_robin_router:RoundRobinRouter"


def main() -> None:
    """Run the measurement that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_serve", description=__doc__)
    parser.add_argument("part", choices=("routing", "overhead"))
    parser.add_argument("--model", type=Path, help="model folder (default: the built-in model)")
    parser.add_argument("--rounds", type=int, default=3, help="overhead: number of pairs (default: 3)")
    parser.add_argument("--answer", type=int, default=128, help="overhead: tokens of each answer (default: 128)")
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
        pairs = asyncio.run(_pairs(model, f"{cluster.url}/v1", rounds, answer))
    for name, results in zip(("plain", "Ray"), zip(*pairs, strict=True), strict=True):
        rate, ttft = median(rate for rate, _ in results), median(ttft for _, ttft in results)
        print(f"{name}: {rate:.1f} tokens/s with 8 streams, TTFT {ttft * 1000:.0f} ms alone")
    ratio = median(through_ray[0] / plain[0] for plain, through_ray in pairs)
    added = median(through_ray[1] - plain[1] for plain, through_ray in pairs)
    print(f"medians of {rounds} pairs: throughput {ratio:.3f} of plain, TTFT {added * 1000:+.1f} ms")


async def _pairs(
    model: Path | None, ray_url: str, rounds: int, answer: int
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    async with own_server(model) as plain:
        through_ray = await Endpoint.connect(NamedUrl("ray", ray_url))
        return [
            (await _eight_streams(plain.endpoint, answer, n), await _eight_streams(through_ray, answer, n))
            for n in range(rounds)
        ]


async def _eight_streams(endpoint: Endpoint, answer: int, round_number: int) -> tuple[float, float]:
    """Return the tokens per second of 8 streams, and the TTFT of one stream alone."""
    alone = [await endpoint.run(Stream(user(prompt(16, f"{round_number}-{i}")), 1)) for i in range(9)]
    streams = [Stream(user(prompt(64, f"{round_number}-stream-{i}")), answer) for i in range(8)]
    return tokens_per_second(await endpoint.run_all(streams)), median(stream.ttft for stream in alone)


def _user_config(model: Path | None) -> dict[str, str]:
    return {"model": str(model)} if model else {}


if __name__ == "__main__":
    main()
