"""What a request can hold: tools, a schema, every sampling parameter; and what the inspector shows of it."""

from __future__ import annotations

import json
import subprocess

import httpx

from tests.playground.conftest import OpenPage
from tests.serving import Server


def test_a_template_makes_a_call_runs_its_function_and_gets_an_answer(demo: Server, open_page: OpenPage) -> None:
    playground = open_page(demo.url)
    playground.wait_until_ready()
    page = playground.page
    page.get_by_label("temperature").fill("0")
    playground.tab("Tools")
    page.get_by_role("button", name="Weather", exact=True).click()
    page.locator("#prompt").press("Enter")
    call = page.locator(".call[data-state=open]")
    call.wait_for()
    assert call.locator("code").inner_text() == "get_weather"
    assert json.loads(call.locator("pre").inner_text()) == {"city": "Lisbon"}
    playground.wait_for_end()
    call.get_by_role("button", name="Run", exact=True).click()
    result = json.loads(call.locator("textarea").input_value())
    page.get_by_role("button", name="Send results").click()
    page.locator(".turn.assistant").nth(1).wait_for()
    playground.wait_for_end()
    assert str(result["temperature"]) in playground.text()


def test_several_calls_are_answered_by_hand(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    page = playground.page
    playground.tab("Tools")
    page.get_by_label("Send tools with each request").check()
    page.get_by_label("tool_choice").select_option("required")
    playground.send("Use two tools")
    calls = page.locator(".call")
    assert calls.count() == 2
    send = page.get_by_role("button", name="Send results")
    assert send.is_disabled()
    calls.nth(0).locator("textarea").fill("Warm")
    calls.nth(1).locator("textarea").fill("Cold")
    page.get_by_label("tool_choice").select_option("auto")
    send.click()
    page.locator(".turn.assistant").nth(1).wait_for()
    playground.wait_for_end()
    request = playground.last_request()
    assert [message["role"] for message in request["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [message["content"] for message in request["messages"][2:]] == ["Warm", "Cold"]
    assert [call["id"] for call in request["messages"][1]["tool_calls"]] == [
        message["tool_call_id"] for message in request["messages"][2:]
    ]


def test_a_schema_is_checked_and_its_answer_is_a_tree(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    page = playground.page
    playground.tab("Schema")
    editor = page.get_by_label("JSON schema", exact=True)
    valid = editor.input_value()
    state = page.locator("#schema-json-state")
    for text, problem in (
        ("{", "JSON"),
        ('{"type": "text"}', 'type "text" is not one of'),
        ('{"properties": {"a": {"uniqueItems": true}}}', "properties.a: the server cannot enforce"),
    ):
        editor.fill(text)
        assert problem in state.inner_text()
    editor.fill(valid)
    assert state.inner_text() == "Valid"
    page.get_by_label("Enforce a JSON schema on each answer").check()
    playground.send("Who is it?")
    tree = playground.answers.last.locator(".tree")
    tree.wait_for()
    assert tree.locator(".tree-leaf").all_inner_texts() == ['name: "Ann"', "age: 31"]
    page.get_by_role("button", name="Text", exact=True).click()
    assert playground.text() == '{"name": "Ann", "age": 31}'


VALUES = {
    "temperature": "0.5", "top_p": "0.9", "top_k": "20", "min_p": "0.1", "repetition_penalty": "1.1",
    "frequency_penalty": "0.2", "presence_penalty": "-0.2", "logit_bias": '{"42": -5}', "seed": "7", "n": "2",
    "max_completion_tokens": "50", "min_tokens": "1", "stop": "one\ntwo", "stop_token_ids": "7, 8",
    "ignore_eos": "false", "thinking_token_budget": "16", "reasoning_effort": "low", "include_reasoning": "true",
    "skip_special_tokens": "true", "priority": "3", "cache_salt": "salt",
}  # fmt: skip


def test_every_parameter_is_sent_and_reset(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    page = playground.page
    fields = page.locator("#panel-settings .field label").all_inner_texts()
    assert {*fields} - {"top_logprobs"} == VALUES.keys()
    for name, value in VALUES.items():
        field = page.locator(f"#parameter-{name}")
        if field.evaluate("element => element.localName") == "select":
            field.select_option(value)
        else:
            field.fill(value)
    page.get_by_label("System prompt").fill("Be short.")
    page.get_by_label("Return the log-probability of each token").check()
    playground.send("Hello")
    request = playground.last_request()
    assert request["messages"][0] == {"role": "system", "content": "Be short."}
    assert {name: request[name] for name in ("logit_bias", "stop", "stop_token_ids", "ignore_eos")} == {
        "logit_bias": {"42": -5}, "stop": ["one", "two"], "stop_token_ids": [7, 8], "ignore_eos": False
    }  # fmt: skip
    assert VALUES.keys() <= request.keys()
    assert playground.answers.last.locator(".failure").count() == 0
    playground.tab("Settings")
    page.locator("#parameter-temperature").fill("9")
    assert "out of range" in page.locator("#parameter-temperature-help").inner_text()
    page.locator("#parameter-top_k").fill("30")
    assert "out of range" in page.locator("#parameter-temperature-help").inner_text()
    assert page.locator("#parameter-temperature").input_value() == "9"
    page.get_by_role("button", name="Reset to the model's").click()
    assert page.locator("#parameter-temperature").input_value() == ""


def test_ranges_and_defaults_are_the_servers(demo: Server, open_page: OpenPage) -> None:
    playground = open_page(demo.url)
    playground.wait_until_ready()
    schemas = httpx.get(f"{demo.url}/openapi.json").json()["components"]["schemas"]
    fields = schemas["ChatCompletionRequest"]["properties"]
    defaults = httpx.get(f"{demo.url}/v1/models/lfm2-demo").json()["sampling_defaults"]
    for name in VALUES:
        numbers = [
            each for each in fields[name].get("anyOf", [fields[name]]) if each.get("type") in ("integer", "number")
        ]
        field = playground.page.locator(f"#parameter-{name}")
        for limit, attribute in (("minimum", "min"), ("maximum", "max")):
            stated = numbers[0].get(limit) if numbers else None
            if stated is not None and abs(stated) < 2**31 - 1:
                assert float(field.get_attribute(attribute) or "nan") == stated, name
        if name in defaults:
            assert float(field.get_attribute("placeholder") or "nan") == defaults[name]


def test_the_inspector_shows_tokens_log_probabilities_and_events(demo: Server, open_page: OpenPage) -> None:
    playground = open_page(demo.url)
    playground.wait_until_ready()
    page = playground.page
    page.get_by_label("Return the log-probability of each token").check()
    playground.send("What are you?")
    page.get_by_role("button", name="Tokens", exact=True).click()
    tokens = playground.answers.last.locator(".token")
    tokens.nth(1).hover()
    assert "log-probability" in playground.answers.last.locator(".token-detail").inner_text()
    tokens.nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert tokens.nth(2).get_attribute("aria-selected") == "true"

    request = playground.last_request()
    body = {"messages": request["messages"], "return_token_strs": True}
    expected = httpx.post(f"{demo.url}/tokenize", json=body).json()["token_strs"]
    page.locator("#panel-inspect summary", has_text="Prompt as tokens").click()
    page.wait_for_selector(".prompt-tokens .token")
    assert page.locator(".prompt-tokens .token").all_text_contents() == expected
    assert page.locator(".prompt-tokens .newline").count() == sum("\n" in token for token in expected)
    page.locator("#panel-inspect summary", has_text="Events").click()
    page.wait_for_selector(".events")
    assert "data: [DONE]" in page.inner_text(".events")
    assert "Time between tokens" in page.inner_text(".chart")

    playground.tab("Server")
    page.get_by_text("Slots").wait_for()
    facts = page.inner_text("#panel-server")
    assert all(fact in facts for fact in ("lfm2-demo", "4,096 tokens", "0 of 16 in use", "Prefix cache", "dtype"))


def test_the_copied_curl_command_sends_the_same_request(demo: Server, open_page: OpenPage) -> None:
    playground = open_page(demo.url)
    playground.wait_until_ready()
    page = playground.page
    playground.send("What's your name?")
    request = playground.last_request()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copied = {}
    for language in ("curl", "Python", "JavaScript"):
        page.get_by_role("button", name=f"Copy as {language}").click()
        page.wait_for_timeout(100)
        copied[language] = page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(["sh", "-c", copied["curl"]], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("data: [DONE]")
    compile(copied["Python"], "copied", "exec")
    assert "What's your name?" in copied["Python"]
    assert json.dumps(request["messages"][0]["content"]) in copied["JavaScript"]
