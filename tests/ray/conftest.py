"""The Ray cluster of all tests, because its start takes a minute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.ray.streams import SECONDS
from tests.waiting import wait_until

if TYPE_CHECKING:
    from benchmarks.ray_cluster import RayCluster


@pytest.fixture(scope="package")
def cluster() -> Iterator[RayCluster]:
    """Three workers with a replica each."""
    from benchmarks.ray_cluster import fixed, ray_cluster

    with ray_cluster(3, autoscaling_config=fixed(3)) as running:
        wait_until(lambda: running.running_replicas() == 3, SECONDS)
        yield running
