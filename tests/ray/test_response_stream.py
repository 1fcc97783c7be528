"""Responses from replicas to the ingress, over real connections. No Ray here."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from benchmarks.processes import free_port
from server.ray.forwarding import ForwardedRequest, respond
from server.ray.response_stream import (
    TICKET_BYTES,
    BrokenResponseError,
    ReplyAddress,
    ResponseListener,
    encode,
    messages,
)

LOCAL = "127.0.0.1"
START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-name", b"caf\xe9")]}
PARTS: list[Message] = [
    {"type": "http.response.body", "body": b"\x00one", "more_body": True},
    {"type": "http.response.body", "body": b"", "more_body": False},
]
REQUEST = ForwardedRequest("POST", "/v1/chat/completions", b"", (), None, b"{}")


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "http.request", "body": REQUEST.body, "more_body": False}
    for message in (START, *PARTS):
        await send(message)


def test_a_response_arrives_as_the_application_sent_it() -> None:
    async def arrive() -> None:
        listener = await ResponseListener.start(LOCAL)
        with listener.expect() as (address, connection):
            answered = asyncio.create_task(respond(answer, REQUEST, address))
            reader, _ = await connection
            assert [message async for message in messages(reader)] == [START, *PARTS]
            await answered

    run(arrive())


def test_the_application_sees_a_client_that_leaves() -> None:
    seen: list[str] = []

    async def wait_for_the_end(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        seen.append((await receive())["type"])
        await send(PARTS[0])

    async def leave() -> None:
        listener = await ResponseListener.start(LOCAL)
        with listener.expect() as (address, connection):
            answered = asyncio.create_task(respond(wait_for_the_end, REQUEST, address))
            await connection
        await answered
        assert seen == ["http.disconnect"]

    run(leave())


def test_a_connection_that_ends_early_is_an_error() -> None:
    async def end_early() -> None:
        listener = await ResponseListener.start(LOCAL)
        with listener.expect() as (address, connection):
            _, writer = await address.connect()
            writer.write(encode(START) + encode(PARTS[0])[:-1])
            writer.close()
            with pytest.raises(BrokenResponseError):
                [message async for message in messages((await connection)[0])]

    run(end_early())


def test_a_connection_with_another_ticket_is_closed() -> None:
    async def intrude() -> None:
        listener = await ResponseListener.start(LOCAL)
        with listener.expect() as (address, connection):
            reader, _ = await replace(address, ticket=bytes(TICKET_BYTES)).connect()
            assert await reader.read() == b""
            assert not connection.done()

    run(intrude())


def test_an_ingress_that_is_gone_is_an_error() -> None:
    address = ReplyAddress(LOCAL, free_port(), bytes(TICKET_BYTES))
    with pytest.raises(BrokenResponseError):
        run(respond(answer, REQUEST, address))
