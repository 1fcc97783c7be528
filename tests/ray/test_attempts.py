"""Attempts to answer a request, over real connections. Ray's handle is a function here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayActorError
from starlette.types import Message, Scope

from server.ray.attempts import Attempts
from server.ray.forwarding import ForwardedRequest
from server.ray.response_stream import ReplyAddress, ResponseListener, encode

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
TOKEN: Message = {"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True}
REQUEST = ForwardedRequest("POST", "/v1/chat/completions", b"", (), None, b"{}")
SCOPE: Scope = {"type": "http", "path": REQUEST.path, "headers": [], "state": {"request_id": "r"}}


@dataclass
class LostNode:
    """A handle to a replica whose node loses its power: its connection stays open, and Ray reports it."""

    lost: asyncio.Event

    def remote(self, request: ForwardedRequest, address: ReplyAddress) -> asyncio.Task[None]:
        return asyncio.create_task(self._answer(address))

    async def _answer(self, address: ReplyAddress) -> None:
        self.connection = await address.connect()
        self.connection[1].write(encode(START) + encode(TOKEN))
        await self.lost.wait()
        raise RayActorError


async def send_until_lost() -> list[Any]:
    sent: list[Any] = []
    node = LostNode(asyncio.Event())

    async def send(message: Message) -> None:
        sent.append(message)
        if message == TOKEN:
            node.lost.set()

    await Attempts(node, await ResponseListener.start("127.0.0.1"), REQUEST, SCOPE, send).run(on_start=lambda: None)
    return sent


def test_a_stream_ends_with_an_error_if_its_node_is_lost() -> None:
    sent = asyncio.run(asyncio.wait_for(send_until_lost(), 60))
    assert sent[:2] == [START, TOKEN]
    assert b'"error"' in sent[-1]["body"]
    assert not sent[-1]["more_body"]
