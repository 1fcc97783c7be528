"""Streams of responses as the OpenAI SDK sees them: their events, and the body that they add up to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from server.settings import Settings
from tests.http.responses_scripts import MODEL, SCRIPTS, SHELL, WEATHER, without_ids
from tests.scripted import thinker
from tests.serving import serving

STREAMED = {
    "hello": [],
    "weather": [WEATHER],
    "cities": [WEATHER],
    "run": [SHELL],
    "silence": [],
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    model = thinker(tmp_path_factory.mktemp("models") / MODEL, SCRIPTS)
    with serving(Settings(model=str(model), threads=1)) as server, server.client as client:
        yield client.responses


@pytest.mark.parametrize("question", STREAMED)
def test_the_streams_deltas_are_the_done_events_and_the_body(client: Any, question: str) -> None:
    fields = {"model": MODEL, "input": question, "tools": STREAMED[question]}
    events = list(client.create(**fields, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type == "response.completed"
    final = events[-1].response
    joined: dict[str, str] = {}
    done: dict[str, str] = {}
    for event in events:
        if event.type.endswith(".delta"):
            joined[event.item_id] = joined.get(event.item_id, "") + event.delta
        elif event.type.endswith(("text.done", "arguments.done", "input.done")):
            values = (getattr(event, name, None) for name in ("text", "arguments", "input"))
            done[event.item_id] = next(value for value in values if value is not None)
        elif event.type == "response.output_item.done":
            assert event.item == final.output[event.output_index]
    assert {item: text for item, text in done.items() if text} == joined
    assert [item.id for item in final.output] == list(done)
    assert without_ids(final.output) == without_ids(client.create(**fields).output)


def test_the_events_of_each_kind_of_item_come_in_openais_order(client: Any) -> None:
    events = client.create(model=MODEL, input="weather", tools=[WEATHER], stream=True)
    kinds = [event.type.removeprefix("response.") for event in events]
    distinct = [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind]
    part = ["output_item.added", "content_part.added"]
    end = ["content_part.done", "output_item.done"]
    assert distinct == [
        "created", "in_progress",
        *part, "reasoning_text.delta", "reasoning_text.done", *end,
        *part, "output_text.delta", "output_text.done", *end,
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip


@pytest.mark.parametrize("question", STREAMED)
def test_the_sdks_stream_helper_gives_the_body(client: Any, question: str) -> None:
    fields: dict[str, Any] = {"model": MODEL, "input": question, "tools": STREAMED[question]}
    with client.stream(**fields) as stream:
        final = stream.get_final_response()
    assert without_ids(final.output) == without_ids(client.create(**fields).output)
