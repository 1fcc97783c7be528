"""A server's metrics as Prometheus reads them."""

from __future__ import annotations

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
        """A sample's value, 0 where there is none yet."""
        return self.samples.get((name, frozenset(labels.items())), 0)

    def total(self, name: str) -> float:
        """The sum over all labels."""
        return sum(value for (sample, _), value in self.samples.items() if sample == name)


def until_over(server: Server, requests: int) -> Scrape:
    """The metrics once so many requests are over, which is just after their clients have read the last byte."""
    server.wait_until(lambda: Scrape(server.url).total("lfm_requests_total") >= requests)
    return Scrape(server.url)
