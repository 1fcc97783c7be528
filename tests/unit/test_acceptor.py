"""Accepting connections when the system has no descriptors left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from typing import Any, cast
from unittest import mock

import pytest

from server.front.acceptor import Acceptor
from server.front.connection import Connection


class ExhaustedListener(socket.socket):
    """A listening socket that cannot accept, and counts the attempts."""

    attempts = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.attempts += 1
        raise OSError(self.error, "exhausted")

    error = errno.EMFILE


@contextlib.contextmanager
def accepting(idle: int, error: int) -> Any:
    """An acceptor without free descriptors, with a waiting client and `idle` idle connections."""
    with ExhaustedListener() as listener, socket.socket() as client:
        listener.error = error
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        connections = {cast(Connection, mock.Mock()): None for _ in range(idle)}
        acceptor = Acceptor(listener, mock.Mock(), set(connections), dict(connections), 100, None, 1)
        acceptor.start()
        yield listener, list(connections)
        acceptor.close()


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
async def test_without_idle_connections_accepting_pauses(error: int, caplog: pytest.LogCaptureFixture) -> None:
    with accepting(0, error) as (listener, _):
        await asyncio.sleep(0.35)
        assert 1 <= listener.attempts <= 5
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
async def test_the_oldest_idle_connections_make_room(error: int, caplog: pytest.LogCaptureFixture) -> None:
    with accepting(3, error) as (listener, connections):
        while listener.attempts < 2:
            await asyncio.sleep(0)
        closed = [connection.transport.abort.called for connection in connections]
        assert closed == sorted(closed, reverse=True)
        assert any(closed)
    assert len(caplog.records) == 1
