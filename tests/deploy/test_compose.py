"""deploy/docker-compose.yml as docker-compose reads it: there is no engine here to start it with."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import Settings
from tests.fleet import DEPLOY


@pytest.fixture(scope="module")
def compose() -> Any:
    if (program := shutil.which("docker-compose")) is None:
        pytest.skip("docker-compose is not installed")
    command = [program, "-f", "docker-compose.yml", "config"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LFM_")}
    result = subprocess.run(command, cwd=DEPLOY, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return yaml.safe_load(result.stdout)


def replicas(compose: Any) -> dict[str, Any]:
    return {name: service for name, service in compose["services"].items() if name.startswith("lfm-serve-")}


def test_what_is_mounted_is_there(compose: Any) -> None:
    mounted = [mount.split(":")[0] for service in compose["services"].values() for mount in service["volumes"]]
    paths = [Path(source) for source in mounted if source.startswith("/")]
    assert len(paths) >= 5
    assert [str(path) for path in paths if not path.exists()] == []


def test_nginx_and_prometheus_know_the_replicas_by_their_names(compose: Any) -> None:
    addresses = {name: service["networks"]["default"]["ipv4_address"] for name, service in replicas(compose).items()}
    assert len(addresses) == 2
    assert compose["services"]["nginx"]["extra_hosts"] == [f"{name}:{address}" for name, address in addresses.items()]
    targets = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert targets["static_configs"] == [{"targets": [f"{name}:8000" for name in addresses]}]
    listed = (DEPLOY / "nginx" / "replicas.conf").read_text()
    assert [line.split()[1] for line in listed.splitlines() if line.startswith("server")] == [
        f"{name}:8000" for name in addresses
    ]


def test_the_replicas_believe_only_nginx_about_addresses(compose: Any) -> None:
    nginx = compose["services"]["nginx"]["networks"]["default"]["ipv4_address"]
    for service in replicas(compose).values():
        assert service["environment"]["LFM_FORWARDED_ALLOW_IPS"] == nginx


def test_a_replica_is_given_the_time_that_its_drain_takes(compose: Any) -> None:
    for service in replicas(compose).values():
        settings = settings_of(service["environment"])
        assert seconds(service["stop_grace_period"]) > settings.drain_delay + settings.drain_timeout


def test_only_nginx_is_published_to_more_than_this_machine(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert name == "nginx" or all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def settings_of(environment: dict[str, Any]) -> Settings:
    """The server's settings under these variables."""
    names = {name.removeprefix("LFM_").lower(): value for name, value in environment.items() if name.startswith("LFM_")}
    return Settings(**{name: value for name, value in names.items() if value is not None})


def seconds(duration: str) -> int:
    """Of "5m20s" and the like."""
    minutes, _, rest = duration.rpartition("m")
    return int(minutes or 0) * 60 + int(rest.removesuffix("s") or 0)
