"""Templates are found, chosen and rendered as by transformers, and unusable ones are refused at the start."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from server.chat.prompt import ChatPrompt
from server.chat.template_sources import Template, TemplateSources, read_template, read_templates
from server.chat.tokenizer import Tokenizer, template_variables
from server.chat.types import Message, TemplateOptions, Thoughts, Tool, ToolCall
from server.errors import InvalidRequestError, ModelFolderError
from server.export.tokenizer import BUILT_IN_TOKENIZER as FOLDER

TOKENIZER = Tokenizer.load(FOLDER)
VARIABLES = template_variables(FOLDER)
PING = Tool("ping", None, {"type": "object", "properties": {}})
# Renders calls and thoughts of assistant messages itself, as LFM2.5's templates do.
RENDERS_ALL = """\
{{- bos_token -}}
{%- set keep_past_thinking = keep_past_thinking | default(false) -%}
{%- macro value_of(value) -%}
{{- '"' + value + '"' if value is string else value | tojson if value is mapping else value | string -}}
{%- endmacro -%}
{%- macro written(calls) -%}
{%- set ns = namespace(calls=[]) -%}
{%- for call in calls -%}
{%- set arguments = namespace(all=[]) -%}
{%- for name, value in call.function.arguments.items() -%}
{%- set arguments.all = arguments.all + [name + "=" + value_of(value)] -%}
{%- endfor -%}
{%- set ns.calls = ns.calls + [call.function.name + "(" + (arguments.all | join(", ")) + ")"] -%}
{%- endfor -%}
{{- "<|tool_call_start|>[" + (ns.calls | join(", ")) + "]<|tool_call_end|>" -}}
{%- endmacro -%}
{%- set last = namespace(index=-1) -%}
{%- for message in messages if message.role == "assistant" -%}
{%- set last.index = messages.index(message) -%}
{%- endfor -%}
{%- if tools -%}
{{- "<|im_start|>system\nList of tools: " + (tools | tojson) + "<|im_end|>\n" -}}
{%- endif -%}
{%- for message in messages -%}
{{- "<|im_start|>" + message.role + "\n" -}}
{%- if message.thinking is defined and (keep_past_thinking or loop.index0 == last.index) -%}
{{- "<think>" + message.thinking + "</think>" -}}
{%- endif -%}
{%- if message.tool_calls is defined -%}{{- written(message.tool_calls) -}}{%- endif -%}
{%- set content = message.content -%}
{%- if message.role == "assistant" and not keep_past_thinking and loop.index0 != last.index -%}
{%- set content = content.split("</think>")[-1] | trim -%}
{%- endif -%}
{%- generation -%}{{- content -}}{%- endgeneration -%}{{- "<|im_end|>\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\n" -}}{%- endif -%}
"""


def prompt(sources: TemplateSources | None) -> ChatPrompt:
    return ChatPrompt(sources, TOKENIZER, VARIABLES)


def text_of(tokens: list[int]) -> str:
    return b"".join(map(TOKENIZER.token_bytes, tokens)).decode()


def refuse(folder: Path) -> str:
    with pytest.raises(ModelFolderError) as caught:
        read_templates(folder)
    return str(caught.value).replace(str(folder), "FOLDER")


def write_config(folder: Path, template: Any, file: str = "tokenizer_config.json") -> None:
    (folder / file).write_text(json.dumps({"chat_template": template}))


def named(**templates: str) -> list[dict[str, str]]:
    return [{"name": name, "template": template} for name, template in templates.items()]


def write_additional(folder: Path, **templates: str) -> None:
    (folder / "additional_chat_templates").mkdir()
    for name, template in templates.items():
        (folder / "additional_chat_templates" / f"{name}.jinja").write_text(template)


def test_chats_with_tools_use_the_template_for_tools() -> None:
    both = prompt(TemplateSources("plain {{ messages | length }}", "tools {{ tools | length }}"))
    assert text_of(both.tokens([Message("user", "u")], [])).endswith("plain 1")
    assert text_of(both.tokens([Message("user", "u")], [PING])).endswith("tools 1")
    one = prompt(TemplateSources("plain {{ messages[-1].content }}"))
    assert text_of(one.tokens([Message("user", "u")], [PING])).endswith("plain u")


@pytest.mark.parametrize("place", ["list", "object", "additional", "all additional"])
@pytest.mark.parametrize("with_tools", [False, True])
def test_named_templates_are_chosen_as_in_transformers(tmp_path: Path, place: str, with_tools: bool) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(FOLDER / name, tmp_path / name)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    default, tool_use = "{{ messages[0].content }} plain", "{{ messages[0].content }} with {{ tools | length }}"
    if place == "additional":
        (tmp_path / "chat_template.jinja").write_text(default)
        write_additional(tmp_path, tool_use=tool_use)
    elif place == "all additional":
        write_additional(tmp_path, default=default, tool_use=tool_use)
    else:
        templates = {"default": default, "tool_use": tool_use}
        config["chat_template"] = named(**templates) if place == "list" else templates
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tools = [{"type": "function", "function": {"name": "ping", "parameters": {}}}] if with_tools else None
    expected = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        [{"role": "user", "content": "hi"}], tools=tools, tokenize=False
    )
    ours = text_of(prompt(read_templates(tmp_path)).tokens([Message("user", "hi")], [PING] if with_tools else []))
    assert ours == expected


def test_the_first_file_with_templates_supplies_them(tmp_path: Path) -> None:
    assert read_templates(tmp_path) is None
    write_config(tmp_path, "json", "chat_template.json")
    assert read_templates(tmp_path) == TemplateSources("json")
    write_config(tmp_path, None)
    assert read_templates(tmp_path) == TemplateSources("json")
    write_config(tmp_path, named(tool_use="t", default="d", rag="r"))
    assert read_templates(tmp_path) == TemplateSources("d", "t")
    write_additional(tmp_path, tool_use="a")
    assert read_templates(tmp_path) == TemplateSources("d", "a")
    (tmp_path / "chat_template.jinja").write_text("own")
    assert read_templates(tmp_path) == TemplateSources("own", "a")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("", "chat_template in FOLDER/tokenizer_config.json is empty"),
        (" \n", "chat_template in FOLDER/tokenizer_config.json is empty"),
        (named(default="d", tool_use=""), "'tool_use' of chat_template in FOLDER/tokenizer_config.json is empty"),
        ([{"template": "d"}], 'has an invalid entry: each needs a "name" and a "template"'),
        ([{"name": "default"}], 'has an invalid entry: each needs a "name" and a "template"'),
        ([{"name": None, "template": "d"}], 'has an invalid entry: each needs a "name" and a "template"'),
        (["d"], 'has an invalid entry: each needs a "name" and a "template"'),
        ({"default": 1}, 'has an invalid entry: each needs a "name" and a "template"'),
        (7, "must be a template or a list of named templates"),
        (named(rag="r", tool_use="t"), "named rag, tool_use, but none named default"),
    ],
)
def test_templates_that_cannot_be_used_are_refused(tmp_path: Path, template: Any, problem: str) -> None:
    write_config(tmp_path, template)
    assert problem in refuse(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe{"])
def test_a_template_file_must_hold_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "chat_template.jinja"
    path.write_bytes(content)
    assert "FOLDER/chat_template.jinja is" in refuse(tmp_path)
    with pytest.raises(ModelFolderError):
        read_template(path)


def test_a_template_for_tools_that_is_not_jinja_is_refused() -> None:
    with pytest.raises(ModelFolderError, match="not valid Jinja"):
        prompt(TemplateSources("d", "{% for %}"))


def test_without_a_template_chats_are_invalid_requests() -> None:
    none = prompt(None)
    assert (none.thinks, none.checkpoints([1, 6]), none.thoughts([1, 6])) == (False, (), Thoughts.NONE)
    with pytest.raises(InvalidRequestError, match="no chat template") as error:
        none.tokens([Message("user", "u")], [PING])
    assert error.value.param == "messages"


def test_a_template_that_renders_nothing_makes_the_request_invalid() -> None:
    nothing = prompt(TemplateSources("{# nothing #}"))
    with pytest.raises(InvalidRequestError, match="renders nothing"):
        nothing.tokens([Message("user", "u")], [], TemplateOptions(add_special_tokens=False))


@pytest.mark.parametrize(
    ("source", "renders_calls", "field"),
    [
        ("{{ message.tool_calls }}{{ message.thinking }}", True, "thinking"),
        ("{{ message['tool_calls'] }}{{ message.get('reasoning_content') }}", True, "reasoning_content"),
        ("{{ message.reasoning }}{{ message.thinking }}", False, "reasoning"),
        ("{# message.tool_calls #}{{ enable_thinking }}{{ keep_past_thinking }}", False, None),
        ("no tool_calls, no thinking", False, None),
    ],
)
def test_a_template_shows_what_it_renders_itself(source: str, renders_calls: bool, field: str | None) -> None:
    template = Template.compile(source)
    assert (template.renders_calls, template.reasoning_field) == (renders_calls, field)


@pytest.mark.parametrize("keep", [False, True])
def test_calls_and_thoughts_are_rendered_as_in_transformers(keep: bool) -> None:
    arguments = {"city": "Paris", "days": 2, "raw": True, "none": None, "box": {"a": [1, "x"]}}
    call = ToolCall("1", "weather", json.dumps(arguments))
    function = {"name": "weather", "arguments": arguments}
    chat = [
        Message("user", "u"),
        Message("assistant", "", (call,), reasoning="Look it up."),
        Message("tool", "12"),
        Message("assistant", "It is 12.", reasoning="Say it."),
        Message("user", "And now?"),
    ]
    expected = AutoTokenizer.from_pretrained(FOLDER).apply_chat_template(
        [
            {"role": "user", "content": "u"},
            {
                "role": "assistant",
                "content": "",
                "thinking": "Look it up.",
                "tool_calls": [{"id": "1", "type": "function", "function": function}],
            },
            {"role": "tool", "content": "12"},
            {"role": "assistant", "content": "It is 12.", "thinking": "Say it."},
            {"role": "user", "content": "And now?"},
        ],
        chat_template=RENDERS_ALL,
        add_generation_prompt=True,
        tokenize=False,
        keep_past_thinking=keep,
    )
    options = TemplateOptions(variables={"keep_past_thinking": keep})
    assert text_of(prompt(TemplateSources(RENDERS_ALL)).tokens(chat, [], options)) == expected


@pytest.mark.parametrize("extra", [[], ["<|im_start|>", "<|im_end|>"], {}, {"image_token": "<|pad|>"}])
def test_extra_special_tokens_may_be_a_list(tmp_path: Path, extra: Any) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(FOLDER / name, tmp_path / name)
    config = json.loads((FOLDER / "tokenizer_config.json").read_text()) | {"extra_special_tokens": extra}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert Tokenizer.load(tmp_path).special == TOKENIZER.special
    assert template_variables(tmp_path)["bos_token"] == VARIABLES["bos_token"]
