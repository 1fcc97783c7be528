"""A store that fails: a response that it lost is failed, and the server forgets the response."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from server.api.responses.store.memory import MemoryStore
from server.api.responses.store.stored import StoredResponse
from tests.serving import StartServer


def test_a_response_in_the_background_that_cannot_be_stored_has_failed(
    tiny_model: Path, start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(model=str(tiny_model), max_seqs=2, threads=1)
    put = MemoryStore.put

    async def full(store: MemoryStore, stored: StoredResponse) -> None:
        if not stored.running:
            raise OSError("no space left on the device")
        await put(store, stored)

    monkeypatch.setattr(MemoryStore, "put", full)
    client = server.client.responses
    answer = client.create(model="tiny-model", input="hello", background=True, max_output_tokens=4)
    server.wait_until(lambda: client.retrieve(answer.id).status not in ("queued", "in_progress"))
    failed = client.cancel(answer.id)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == ("failed", "server_error")
    assert "could not store" in failed.error.message
    assert f"The response {answer.id} could not be stored" in caplog.text
    client.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.retrieve(answer.id)
