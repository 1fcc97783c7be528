"""What a connection is set to."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from server.front.connection import Connection
from tests.serving import StartServer


def test_no_packet_waits_for_the_acknowledgement_of_the_one_before(
    tiny_model: Path, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, connection_made = [], Connection.connection_made

    def noting(self: Connection, transport: asyncio.Transport) -> None:
        connection_made(self, transport)
        made.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(Connection, "connection_made", noting)
    httpx.get(f"{start_server(model=str(tiny_model)).url}/health")
    assert made
    assert all(made)
