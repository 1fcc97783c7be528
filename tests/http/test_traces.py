"""A request's trace, as a collector gets it."""

from __future__ import annotations

import contextlib
import http.server
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.settings import Settings
from server.telemetry.logs import note_request
from server.telemetry.trace_exporters import wanted_traces
from tests.chats import ENDLESS, HELLO
from tests.server_process import server_process
from tests.serving import Server, StartServer, serving

otlp = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="needs the extra otel")
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


class Collector(http.server.ThreadingHTTPServer):
    """Takes spans over OTLP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.resources: list[Any] = []
        self.spans: dict[str, Any] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        sent = otlp.ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for spans in sent.resource_spans:
            self.server.resources.append(attributes(spans.resource))
            self.server.spans |= {span.name: span for scope in spans.scope_spans for span in scope.spans}
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def attributes(span: Any) -> dict[str, Any]:
    """Its attributes' values as text, a list's as a list."""
    found = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        found[attribute.key] = [one.string_value for one in value.values] if kind == "array_value" else value
    return found


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Traces go to it by nothing but the standard variables."""
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield collector
        collector.shutdown()
        thread.join()


@pytest.fixture
def server(collector: Collector, tiny_model: Path, start_server: StartServer) -> Server:
    return start_server(model=str(tiny_model), threads=1, max_seqs=1)


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_request_is_a_span_with_its_generation_and_its_phases(
    server: Server, collector: Collector, path: str
) -> None:
    body = {"max_tokens": 7, **ENDLESS} | ({"messages": HELLO} if path == CHAT else {"prompt": "hello"})
    answer = httpx.post(server.url + path, json=body)
    usage = answer.json()["usage"]
    server.wait_until(lambda: f"POST {path}" in collector.spans)
    operation = "chat" if path == CHAT else "text_completion"
    request, generation = collector.spans[f"POST {path}"], collector.spans[f"{operation} tiny-model"]
    assert generation.parent_span_id == request.span_id
    assert attributes(request).items() >= {("http.route", path), ("http.response.status_code", 200)}
    assert attributes(request)["http.response.header.x-request-id"] == [answer.headers["x-request-id"]]
    assert attributes(generation) == {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "lfm-serve",
        "gen_ai.request.model": "tiny-model",
        "gen_ai.response.model": "tiny-model",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": usage["prompt_tokens_details"]["cached_tokens"],
    }
    borders = [request.start_time_unix_nano, generation.start_time_unix_nano]
    for phase in ("queue", "prefill", "decode"):
        span = collector.spans[phase]
        assert span.parent_span_id == generation.span_id
        borders += [span.start_time_unix_nano, span.end_time_unix_nano]
    assert borders == sorted(borders)
    assert borders[-1] <= generation.end_time_unix_nano
    assert collector.resources[0]["service.name"] == "lfm-serve"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "Hello!", "max_output_tokens": 2}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 2, "model": "tiny-model"}),
    ],
)
def test_the_other_protocols_have_generations(
    server: Server, collector: Collector, path: str, body: dict[str, Any]
) -> None:
    assert httpx.post(server.url + path, json=body).status_code == 200
    server.wait_until(lambda: f"POST {path}" in collector.spans)
    generation = collector.spans["chat tiny-model"]
    assert generation.parent_span_id == collector.spans[f"POST {path}"].span_id
    assert attributes(generation)["gen_ai.usage.output_tokens"] == 2


def test_it_is_part_of_the_callers_trace(server: Server, collector: Collector) -> None:
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    httpx.post(server.url + CHAT, json={"messages": HELLO, "max_tokens": 2}, headers=parent)
    server.wait_until(lambda: f"POST {CHAT}" in collector.spans)
    assert {span.trace_id.hex() for span in collector.spans.values()} == {"0af7651916cd43dd8448eb211c80319c"}
    assert collector.spans[f"POST {CHAT}"].parent_span_id.hex() == "b7ad6b7169203331"


def test_a_trace_that_the_caller_does_not_sample_is_not_sent(server: Server, collector: Collector) -> None:
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
    httpx.post(server.url + CHAT, json={"messages": HELLO, "max_tokens": 2}, headers=parent)
    httpx.get(f"{server.url}/version")
    server.wait_until(lambda: "GET /version" in collector.spans)
    assert collector.spans.keys() == {"GET /version"}


def test_a_client_that_left_and_a_wrong_request_have_their_own_status(server: Server, collector: Collector) -> None:
    with httpx.stream("POST", server.url + CHAT, json={"messages": HELLO, "stream": True, **ENDLESS}) as answer:
        next(answer.iter_raw())
    server.wait_until(lambda: f"POST {CHAT}" in collector.spans)
    assert attributes(collector.spans[f"POST {CHAT}"])["http.response.status_code"] == 499
    assert collector.spans["decode"].end_time_unix_nano > 0
    httpx.post(server.url + TEXT, json={})
    server.wait_until(lambda: f"POST {TEXT}" in collector.spans)
    refused = collector.spans[f"POST {TEXT}"]
    assert attributes(refused)["error.type"] == "missing_required_parameter"
    assert refused.status.code == 0


def test_log_lines_say_the_trace(server: Server, collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(note_request)
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Request-ID": "mine"}
    httpx.get(f"{server.url}/version", headers=parent)
    server.wait_until(lambda: "GET /version" in collector.spans)
    (line,) = (line for line in caplog.records if line.name == "server.requests")
    span = collector.spans["GET /version"]
    assert getattr(line, "context", None) == {
        "request_id": "mine", "trace_id": span.trace_id.hex(), "span_id": span.span_id.hex()
    }  # fmt: skip


def test_the_remaining_spans_are_sent_when_the_server_ends(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    with serving(Settings(model=str(tiny_model), threads=1)) as server:
        httpx.get(f"{server.url}/version")
        assert not collector.spans
    assert collector.spans.keys() == {"GET /version"}


def test_an_unknown_exporter_is_named_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert wanted_traces({"OTEL_TRACES_EXPORTER": "zipkin"}) is None
    assert "zipkin" in caplog.text
    assert "otlp_proto_http" in caplog.text


def test_without_the_extra_there_is_one_warning_and_the_server_runs(
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: Path,
    start_server: StartServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "server.telemetry.traces", None)
    server = start_server(model=str(tiny_model), threads=1)
    assert server.chat(messages=HELLO, max_tokens=2).status_code == 200
    (warning,) = (line.message for line in caplog.records if line.levelno >= logging.WARNING)
    assert "pip install 'lfm-serve[otel]'" in warning
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in warning


@pytest.mark.parametrize("off", [{"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}])
def test_the_standard_variables_switch_it_off(off: dict[str, str]) -> None:
    assert wanted_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"} | off) is None


def test_there_are_no_traces_by_default() -> None:
    assert wanted_traces({}) is None


@pytest.fixture(params=["hangs", "refuses", "is overloaded"])
def broken_collector(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a collector that takes no traces."""
    with contextlib.ExitStack() as stack:
        if request.param == "is overloaded":
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Overloaded))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            yield f"http://127.0.0.1:{server.server_port}"
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            if request.param == "refuses":
                listener.close()
            yield url


class Overloaded(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.send_header("Retry-After", "20")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_broken_collector_does_not_delay_the_end(broken_collector: str, tiny_model: Path) -> None:
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": broken_collector, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with server_process("--model", str(tiny_model), "--threads", "1", **traced) as server:
        server.wait_until_ready()
        for _ in range(3):
            assert server.get("/version").status_code == 200
        begun = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begun < 8
