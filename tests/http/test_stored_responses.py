"""The store of responses: whose they are, how long they stay, streams resumed, and the background."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from server.settings import Settings
from tests.errors import error_of
from tests.http.responses_scripts import LONG, MODEL, SCRIPTS
from tests.scripted import scripted
from tests.serving import Server, StartServer, serving

KEYS = '[ann]\nkey = "ann-key"\n[bob]\nkey = "bob-key"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted(tmp_path_factory.mktemp("models") / MODEL, SCRIPTS)


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two keys and little memory for responses."""
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text(KEYS)
    with serving(Settings(model=str(folder), threads=1, api_keys_file=keys, responses_memory=1)) as running:
        yield running


def client_of(server: Server, key: str) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0).responses


@pytest.fixture
def ann(server: Server) -> Any:
    return client_of(server, "ann-key")


def ended(server: Server, client: Any, response_id: str) -> Any:
    server.wait_until(lambda: client.retrieve(response_id).status not in ("queued", "in_progress"))
    return client.retrieve(response_id)


def test_a_stored_response_is_what_was_answered(ann: Any) -> None:
    answer = ann.create(model=MODEL, input="hello", metadata={"a": "b"})
    assert ann.retrieve(answer.id) == answer
    *_, last = ann.create(model=MODEL, input="hello", stream=True)
    assert ann.retrieve(last.response.id) == last.response


def test_a_deleted_response_is_gone(ann: Any) -> None:
    answer = ann.create(model=MODEL, input="hello")
    ann.delete(answer.id)
    for call in (ann.retrieve, ann.delete, ann.cancel, ann.input_items.list):
        with pytest.raises(openai.NotFoundError) as caught:
            call(answer.id)
        assert caught.value.code == "response_not_found"
    with pytest.raises(openai.NotFoundError) as missing:
        ann.create(model=MODEL, input="thanks", previous_response_id=answer.id)
    assert (missing.value.code, missing.value.param) == ("previous_response_not_found", "previous_response_id")


def test_another_key_finds_nothing(server: Server, ann: Any) -> None:
    bob = client_of(server, "bob-key")
    answer = ann.create(model=MODEL, input="hello")
    running = ann.create(model=MODEL, input="tell me all", background=True)
    item = {"type": "item_reference", "id": answer.output[0].id}
    for call in (
        lambda: bob.retrieve(answer.id),
        lambda: bob.retrieve(answer.id, stream=True),
        lambda: bob.retrieve(running.id),
        lambda: bob.retrieve(running.id, stream=True),
        lambda: bob.cancel(running.id),
        lambda: bob.delete(answer.id),
        lambda: bob.input_items.list(answer.id),
        lambda: bob.create(model=MODEL, input="thanks", previous_response_id=answer.id),
        lambda: bob.create(model=MODEL, input=[item]),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    assert ann.retrieve(answer.id) == answer
    ann.cancel(running.id)


def test_the_input_items_are_listed_in_pages(ann: Any) -> None:
    first = ann.create(model=MODEL, input="hello")
    call = {"type": "function_call", "call_id": "c", "name": "ping", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "pong"}
    items = [call, result, {"role": "assistant", "content": "a"}, {"role": "user", "content": "thanks"}]
    second = ann.create(model=MODEL, input=items, previous_response_id=first.id)
    kinds = ["function_call", "function_call_output", "message", "message"]
    assert [item.type for item in ann.input_items.list(second.id, order="asc")] == kinds
    assert [item.type for item in ann.input_items.list(second.id, limit=1)] == kinds[::-1], "the SDK follows pages"
    page = ann.input_items.list(second.id, limit=3, order="asc")
    assert (page.has_more, page.first_id, page.last_id) == (True, page.data[0].id, page.data[2].id)
    rest = ann.input_items.list(second.id, order="asc", after=page.last_id)
    assert (rest.has_more, [item.content[0].text for item in rest.data]) == (False, ["thanks"])
    for wrong, param in (({"limit": 0}, "limit"), ({"order": "up"}, "order"), ({"after": "x"}, "after")):
        with pytest.raises(openai.BadRequestError) as caught:
            ann.input_items.list(second.id, **wrong)
        assert caught.value.param == param


def test_a_reference_stands_for_a_stored_item(ann: Any) -> None:
    first = ann.create(model=MODEL, input="hello", extra_body={"return_token_ids": True})
    (asked,) = ann.input_items.list(first.id).data
    thanks = {"role": "user", "content": "thanks"}
    references = [{"type": "item_reference", "id": asked.id}, {"id": first.output[0].id}]
    prompts = [
        ann.create(model=MODEL, extra_body={"return_token_ids": True}, **fields).model_extra["prompt_token_ids"]
        for fields in ({"input": [*references, thanks]}, {"input": [thanks], "previous_response_id": first.id})
    ]
    assert prompts[0] == prompts[1]
    with pytest.raises(openai.NotFoundError) as caught:
        ann.create(model=MODEL, input=[thanks, {"type": "item_reference", "id": "msg_x_0"}])
    assert (caught.value.code, caught.value.param) == ("item_not_found", "input[1].id")


@pytest.mark.parametrize("background", [False, True])
def test_a_stream_is_resumed_after_any_event(ann: Any, background: bool) -> None:
    events = list(ann.create(model=MODEL, input="hello", stream=True, background=background))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    response_id = events[0].response.id
    assert list(ann.retrieve(response_id, stream=True)) == events
    for after in (0, 5, len(events) - 1):
        assert list(ann.retrieve(response_id, stream=True, starting_after=after)) == events[after + 1 :]
    with ann.stream(response_id=response_id, starting_after=5) as stream:
        assert [event.sequence_number for event in stream] == list(range(6, len(events)))


def test_only_a_streamed_response_has_events(ann: Any) -> None:
    answer = ann.create(model=MODEL, input="hello")
    with pytest.raises(openai.BadRequestError) as caught:
        ann.retrieve(answer.id, stream=True)
    assert caught.value.param == "stream"
    with pytest.raises(openai.BadRequestError) as wrong:
        ann.retrieve(answer.id, stream=True, starting_after=-1)
    assert wrong.value.param == "starting_after"


def test_a_stream_in_the_background_outlives_its_client(server: Server, ann: Any) -> None:
    stream = ann.create(model=MODEL, input="tell me all", stream=True, background=True)
    events = [next(stream) for _ in range(8)]
    stream.close()
    kinds = [event.type for event in events[:4]]
    assert kinds == ["response.created", "response.queued", "response.in_progress", "response.output_item.added"]
    response_id = events[0].response.id
    seen = events + list(ann.retrieve(response_id, stream=True, starting_after=events[-1].sequence_number))
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == "response.completed"
    assert ended(server, ann, response_id).output_text == LONG


def test_a_running_response_has_the_output_so_far(ann: Any) -> None:
    fields = {"model": MODEL, "input": "tell me all", "extra_body": {"ignore_eos": True}}
    stream = ann.create(**fields, background=True, stream=True)
    events = [next(stream) for _ in range(8)]
    running = ann.retrieve(events[0].response.id)
    assert running.status == "in_progress"
    assert running.output_text.startswith("word ")
    ann.cancel(running.id)


def test_a_response_in_the_background_is_polled_and_continued(server: Server, ann: Any) -> None:
    answer = ann.create(model=MODEL, input="hello", background=True)
    assert (answer.status, answer.output, answer.background) == ("queued", [], True)
    done = ended(server, ann, answer.id)
    assert (done.status, done.output_text) == ("completed", "Hello there! 😀")
    assert ann.create(model=MODEL, input="thanks", previous_response_id=answer.id).output_text == "You are welcome."
    assert ann.cancel(answer.id) == done, "what has ended stays as it is"
    server.wait_until(server.is_idle)


def test_a_response_in_the_background_is_cancelled(server: Server, ann: Any) -> None:
    for stream in (False, True):
        answer = ann.create(model=MODEL, input="tell me all", background=True, stream=stream)
        events = [next(answer) for _ in range(8)] if stream else []
        response_id = events[0].response.id if stream else answer.id
        with pytest.raises(openai.BadRequestError):
            ann.create(model=MODEL, input="thanks", previous_response_id=response_id)
        cancelled = ann.cancel(response_id)
        assert cancelled.status == "cancelled"
        assert ann.cancel(response_id) == ann.retrieve(response_id) == cancelled
        if stream:
            *_, last = answer
            assert (last.type, last.response) == ("response.incomplete", cancelled)
        server.wait_until(server.is_idle)


def test_only_a_response_in_the_background_is_cancelled(ann: Any) -> None:
    answer = ann.create(model=MODEL, input="hello")
    with pytest.raises(openai.BadRequestError) as caught:
        ann.cancel(answer.id)
    assert "background: true" in caught.value.message


def test_deleting_a_running_response_stops_it(server: Server, ann: Any) -> None:
    answer = ann.create(model=MODEL, input="tell me all", background=True)
    ann.delete(answer.id)
    server.wait_until(server.is_idle)
    with pytest.raises(openai.NotFoundError):
        ann.retrieve(answer.id)


def test_the_least_recently_used_responses_leave_a_full_memory(ann: Any) -> None:
    fields = {"model": MODEL, "max_output_tokens": 1}
    kept = ann.create(**fields, input="hello")
    forgotten = ann.create(**fields, input="hello")
    for _ in range(8):
        ann.create(**fields, input="hello", user="u" * 200_000)
        assert ann.retrieve(kept.id)
    with pytest.raises(openai.NotFoundError):
        ann.retrieve(forgotten.id)


def test_a_response_expires(folder: Path, tmp_path: Path, start_server: StartServer) -> None:
    for file in (None, tmp_path / "responses.db"):
        server = start_server(model=str(folder), threads=1, responses_ttl=0.2, responses_file=file)
        answer = server.client.responses.create(model=MODEL, input="hello")
        url = f"{server.url}/v1/responses/{answer.id}"
        server.wait_until(lambda url=url: httpx.get(url).status_code == 404)  # type: ignore[misc]


def test_a_slow_response_in_the_background_fails_at_its_time_limit(server: Server) -> None:
    headers = {"Authorization": "Bearer ann-key", "X-Request-Timeout": "0.05"}
    body = {"input": "tell me all", "background": True}
    answer = httpx.post(f"{server.url}/v1/responses", json=body, headers=headers, timeout=60)
    if answer.status_code == 504:
        return  # the time was over before the answer began
    failed = ended(server, client_of(server, "ann-key"), answer.json()["id"])
    assert (failed.status, failed.error.code) == ("failed", "server_error")
    assert "time limit" in failed.error.message


def test_a_stream_that_fails_ends_with_the_error_and_the_response(server: Server) -> None:
    headers = {"Authorization": "Bearer ann-key", "X-Request-Timeout": "0.2"}
    body = {"input": "tell me all", "stream": True}
    answer = httpx.post(f"{server.url}/v1/responses", json=body, headers=headers, timeout=60)
    if answer.status_code == 504:
        error_of(answer, 504)
        return
    *_, error, failed = [json.loads(text.partition("data: ")[2]) for text in answer.text.rstrip().split("\n\n")]
    assert (error["type"], error["code"]) == ("error", "request_timeout")
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["output"][0]["status"] == "incomplete"
