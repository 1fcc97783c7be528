"""A server's metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import Server


class Scrape:
    """All samples of the server at `url` at one moment."""

    def __init__(self, url: str) -> None:
        text = httpx.get(f"{url}/metrics").raise_for_status().text
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        """Return a sample's value, 0 if there is none yet."""
        return self.samples.get((name, frozenset(labels.items())), 0)

    def total(self, name: str) -> float:
        """Return the sum over all labels."""
        return sum(value for (sample, _), value in self.samples.items() if sample == name)


def until_over(server: Server, requests: int) -> Scrape:
    """Wait until the server has counted `requests`, just after the last byte of each; return its metrics."""
    server.wait_until(lambda: Scrape(server.url).total("lfm_requests_total") >= requests)
    return Scrape(server.url)


@contextmanager
def one_cancelled(server: Server, route: str) -> Iterator[None]:
    """Wait at the end of the block until the server has cancelled one more request of the route."""

    def cancelled() -> float:
        return Scrape(server.url)("lfm_requests_total", route=route, finish_reason="cancelled")

    before = cancelled()
    yield
    server.wait_until(lambda: cancelled() == before + 1)
