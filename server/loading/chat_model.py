"""Assembles a model's tokenizer, template, grammars and sampling defaults."""

from __future__ import annotations

import json

from pydantic import ValidationError

from server.chat.constrained.compiler import GrammarCompiler
from server.chat.prompt import ChatPrompt
from server.chat.sampling_defaults import sampling_defaults
from server.chat.service import ChatModel
from server.chat.template_sources import TemplateSources, read_template, read_templates
from server.chat.thinking import ThinkingBudgets
from server.chat.tokenizer import Tokenizer, template_variables
from server.engine.types import SamplingParams
from server.errors import ModelFolderError
from server.runtime.model_folder import ModelFolder
from server.settings import SamplingOverrides, Settings


def chat_model(settings: Settings, folder: ModelFolder) -> ChatModel:
    """Return the model's tokenizer, chat template, grammars and sampling defaults.

    Raises ModelFolderError if the model has no token that ends an answer, or if a sampling default is invalid.
    """
    tokenizer = Tokenizer.load(folder.path)
    own = settings.chat_template
    sources = TemplateSources(read_template(own)) if own else read_templates(folder.path)
    variables = template_variables(folder.path)
    stop = set(folder.eos_token_ids)
    if (end := tokenizer.special.get(variables.get("eos_token", ""))) is not None:
        stop.add(end)
    if not stop:
        raise ModelFolderError(
            f"The model in {folder.path} has no token that ends an answer: set eos_token_id in its config.json."
        )
    grammars = GrammarCompiler(tokenizer, folder.vocab_size, sorted(stop))
    return ChatModel(
        tokenizer=tokenizer,
        prompt=ChatPrompt(sources, tokenizer, variables, bare_tools=folder.is_lfm2),
        defaults=_sampling(settings, folder),
        stop_token_ids=frozenset(stop),
        grammars=grammars,
        constrain_always=settings.tool_constraints == "always",
        thinking=ThinkingBudgets(settings.default_thinking_budget, settings.thinking_budgets),
    )


def _sampling(settings: Settings, folder: ModelFolder) -> SamplingParams:
    """Return the default sampling parameters.

    Raises ModelFolderError if a value in generation_config.json is invalid.
    """
    card = folder.member.sampling if folder.member else None
    values = sampling_defaults(folder.generation_config, card, settings.default_sampling)
    try:
        return SamplingParams(**SamplingOverrides.model_validate(values).model_dump(exclude_unset=True))
    except ValidationError as error:
        (name,), shown = error.errors()[0]["loc"], json.dumps(error.errors()[0]["input"])
        reason = error.errors()[0]["msg"].replace("Input should", "it should")
        raise ModelFolderError(
            f"{folder.path / 'generation_config.json'} sets {name} to {shown}; {reason}. Correct the file or set "
            f"{name} with --default-sampling."
        ) from None
