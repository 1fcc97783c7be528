"""Prometheus' rules and Grafana's dashboard: every expression is put to the real Prometheus, which scrapes a server.

Grafana itself is not run: that its files are read as they are meant is for whoever changes them to look at.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.processes import free_port
from tests import fleet
from tests.fleet import DEPLOY, Service
from tests.waiting import wait_until

PROMETHEUS = DEPLOY / "prometheus"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "lfm-serve.json").read_text())
SOURCES = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())
ALERTS = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
METRIC = re.compile(r"\b[a-z_]+(?=\{)")

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")


def queries() -> list[str]:
    """The dashboard's, for all replicas and over a time that the test can wait for."""
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    return [each.replace("$instance", ".*").replace("$__rate_interval", "1m") for each in expressions]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = fleet.replica(tmp_path_factory.mktemp("server"), "replica", "--threads", "1")
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def prometheus(server: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Scraping the server as deploy/ says, but every second."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    configuration = (PROMETHEUS / "prometheus.yml").read_text()
    for configured, here in (("15s", "1s"), ("lfm-serve-1:8000, lfm-serve-2:8000", server.address)):
        assert configured in configuration
        configuration = configuration.replace(configured, here)
    (folder / "prometheus.yml").write_text(configuration)
    shutil.copy(PROMETHEUS / "alerts.yml", folder)
    options = {"config.file": f"{folder}/prometheus.yml", "storage.tsdb.path": f"{folder}/data"}
    options |= {"web.listen-address": f"127.0.0.1:{port}"}
    command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    service = Service(command, port, folder / "prometheus.log", "/-/ready")
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.stop()


def ask(prometheus: Service, path: str, **parameters: str) -> Any:
    answer = httpx.get(f"{prometheus.url}/api/v1/{path}", params=parameters)
    assert answer.status_code == 200, f"{parameters}: {answer.text}"
    return answer.json()["data"]


def has_data(prometheus: Service, query: str) -> bool:
    samples = ask(prometheus, "query", query=query)["result"]
    return any(math.isfinite(float(sample["value"][1])) for sample in samples)


def load(server: Service) -> None:
    """A conversation's two turns, and a request that is refused."""
    messages = [{"role": "user", "content": "What are you? " * 20}]
    for _ in range(2):
        answer = httpx.post(f"{server.url}/v1/chat/completions", json={"messages": messages, "max_tokens": 8})
        messages += [answer.raise_for_status().json()["choices"][0]["message"], messages[0]]
    httpx.post(f"{server.url}/v1/chat/completions", json={"messages": []})


def test_the_rules_fire_when_they_should_and_only_then() -> None:
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]):
        result = subprocess.run(["promtool", *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def test_every_query_of_the_dashboard_has_data_after_a_load(server: Service, prometheus: Service) -> None:
    empty = queries()

    def all_have_data() -> bool:
        load(server)
        empty[:] = [query for query in empty if not has_data(prometheus, query)]
        return not empty

    try:
        wait_until(all_have_data)
    except AssertionError:
        pytest.fail("no data for\n" + "\n".join(empty))


def test_every_alert_is_evaluated_and_its_metrics_exist(server: Service, prometheus: Service) -> None:
    def evaluated() -> list[dict[str, Any]]:
        rules = ask(prometheus, "rules")["groups"][0]["rules"]
        return [rule for rule in rules if rule["health"] != "unknown"]

    wait_until(lambda: len(evaluated()) == len(ALERTS))
    assert [rule["lastError"] for rule in evaluated() if rule["health"] != "ok"] == []
    load(server)
    metrics = {name for rule in ALERTS for name in METRIC.findall(rule["expr"])}
    assert {"up", "lfm_ready", "lfm_time_to_first_token_seconds_bucket"} <= metrics
    wait_until(lambda: all(has_data(prometheus, f"count({name})") for name in metrics))


def test_a_healthy_server_raises_no_alert(prometheus: Service) -> None:
    wait_until(lambda: ask(prometheus, "alerts")["alerts"] == [])


def test_every_panel_asks_the_provisioned_source() -> None:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {SOURCES["datasources"][0]["uid"]}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["targets"] for panel in panels)
