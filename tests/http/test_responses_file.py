"""The file of responses (--responses-file): what a restarted server finds in it, and when it stops the start."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from server.errors import StartupError
from server.settings import Settings
from tests.http.responses_scripts import MODEL, SCRIPTS
from tests.scripted import scripted
from tests.server_process import server_process
from tests.serving import serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted(tmp_path_factory.mktemp("models") / MODEL, SCRIPTS)


def test_a_file_keeps_responses_and_conversations_through_a_kill(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "responses.db"
    with server_process("--model", str(folder), "--threads", "1", "--responses-file", str(file)) as killed:
        killed.wait_until_ready()
        client = openai.OpenAI(base_url=f"{killed.url}/v1", api_key="none", max_retries=0).responses
        first = client.create(model=MODEL, input="hello")
        events = list(client.create(model=MODEL, input="hello", stream=True))
        running = client.create(model=MODEL, input="tell me all", background=True)
    with serving(Settings(model=str(folder), threads=1, responses_file=file)) as restarted:
        client = restarted.client.responses
        assert client.retrieve(first.id) == first
        assert list(client.retrieve(events[-1].response.id, stream=True)) == events
        second = client.create(model=MODEL, input="thanks", previous_response_id=first.id)
        assert second.output_text == "You are welcome."
        lost = client.retrieve(running.id)
        assert (lost.status, lost.error.code) == ("failed", "server_error")
        with pytest.raises(StartupError, match=r"--responses-file: .*locked"):
            serving(Settings(model=str(folder), threads=1, responses_file=file)).__enter__()


def test_a_file_that_is_no_database_stops_the_start(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "responses.db"
    file.write_text("no database " * 100)
    with pytest.raises(StartupError, match="--responses-file"):
        serving(Settings(model=str(folder), responses_file=file)).__enter__()
