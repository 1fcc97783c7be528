"""Attempts to answer a request, over real connections. Ray's handle is a stand-in here."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs the environment of requirements/ray.txt")

from ray.exceptions import RayActorError
from ray.serve.exceptions import RequestCancelledError
from starlette.types import Message, Scope

from server.ray.attempts import Attempts
from server.ray.forwarding import ForwardedRequest
from server.ray.response_stream import ReplyAddress, ResponseListener, encode

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
TOKEN: Message = {"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}
REQUEST = ForwardedRequest("POST", "/v1/chat/completions", b"", (), None, b"{}")
SCOPE: Scope = {"type": "http", "path": REQUEST.path, "headers": [], "state": {"request_id": "r"}}

Answer = Callable[[ReplyAddress], Awaitable[None]]


@dataclass
class Handle:
    """A handle to a replica that answers a request with `answer`."""

    answer: Answer

    def remote(self, request: ForwardedRequest, address: ReplyAddress) -> asyncio.Task[None]:
        return asyncio.create_task(self._answer(address))

    async def _answer(self, address: ReplyAddress) -> None:
        try:
            await self.answer(address)
        except asyncio.CancelledError:  # Ray raises its own error for a call that is cancelled
            raise RequestCancelledError from None


async def attempts(answer: Answer, sent: list[Any]) -> Attempts:
    async def send(message: Message) -> None:
        sent.append(message)

    return Attempts(Handle(answer), await ResponseListener.start("127.0.0.1"), REQUEST, SCOPE, send)


def run(answer: Answer, sent: list[Any]) -> None:
    """Forward a request. `sent` receives what the client gets."""

    async def forward() -> None:
        await (await attempts(answer, sent)).run(on_start=lambda: None)

    asyncio.run(asyncio.wait_for(forward(), 60))


def test_a_stream_ends_with_an_error_if_its_node_is_lost() -> None:
    connections: list[Any] = []
    sent: list[Any] = []

    async def lose_power(address: ReplyAddress) -> None:
        connections.append(await address.connect())  # the replica never closes it
        connections[0][1].write(encode(START) + encode(TOKEN))
        while TOKEN not in sent:
            await asyncio.sleep(0.01)
        raise RayActorError

    run(lose_power, sent)
    assert sent[0] == START
    assert b'"error"' in sent[-1]["body"]
    assert not sent[-1]["more_body"]


def test_an_error_after_a_whole_response_is_not_sent() -> None:
    sent: list[Any] = []

    async def fail_late(address: ReplyAddress) -> None:
        _, writer = await address.connect()
        for message in (START, TOKEN, END):
            writer.write(encode(message))
        writer.close()
        while END not in sent:
            await asyncio.sleep(0.01)
        raise RuntimeError

    run(fail_late, sent)
    assert sent == [START, TOKEN, END]


def test_a_request_cancelled_before_its_response_leaves_no_error_behind() -> None:
    unretrieved: list[Any] = []
    called = asyncio.Event()

    async def wait_in_the_queue(address: ReplyAddress) -> None:
        called.set()
        await asyncio.Event().wait()

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unretrieved.append(context))
        running = asyncio.create_task((await attempts(wait_in_the_queue, [])).run(on_start=lambda: None))
        await called.wait()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await asyncio.sleep(0.1)
        gc.collect()  # asyncio reports an exception when it drops the task

    asyncio.run(asyncio.wait_for(leave(), 60))
    assert unretrieved == []
