"""Servers in a thread of the test process: the real application on a real socket."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import httpx
import openai

from server.app import create_app, create_server
from server.chat.served_model import ServedModel
from server.engine.engine import Engine, QueuePlaces
from server.engine.stream import TokenStream
from server.engine.types import GenerationRequest
from server.front.listener import listen
from server.settings import Settings
from tests.waiting import wait_until

START_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A running server, and its model and engine, to see what a request leaves behind."""

    url: str
    model: ServedModel

    @property
    def engine(self) -> Engine:
        return self.model.service.engine

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    @property
    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def chat(self, **body: Any) -> httpx.Response:
        """Send a chat as it is, since the SDK refuses invalid ones."""
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60)

    def is_idle(self) -> bool:
        return self.engine.running == 0 and self.engine.waiting == 0

    def wait_until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        wait_until(condition, seconds)


@contextlib.contextmanager
def serving(settings: Settings, port: int = 0) -> Iterator[Server]:
    """Run a server during the block; port 0 picks a free one."""
    listener = listen("127.0.0.1", port)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = create_app(settings, url)
    server = create_server(app, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        give_up = time.monotonic() + START_SECONDS
        while app.state.server.model is None:
            if app.state.failure is not None:
                raise app.state.failure
            assert time.monotonic() < give_up, "the model did not load"
            time.sleep(0.01)
        yield Server(url, app.state.server.model)
    finally:
        server.should_exit = True
        thread.join()


StartServer = Callable[..., Server]


@contextlib.contextmanager
def recorded_requests(server: Server) -> Iterator[list[GenerationRequest]]:
    """Collect the requests that reach the engine during the block."""
    requests: list[GenerationRequest] = []
    submit = QueuePlaces.submit

    def recording(places: QueuePlaces, submitted: Sequence[GenerationRequest]) -> list[TokenStream]:
        if places.engine is server.engine:
            requests.extend(submitted)
        return submit(places, submitted)

    with mock.patch.object(QueuePlaces, "submit", recording):
        yield requests
