"""Request fields that control how a chat becomes a prompt."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from server.api.http.base_model import ApiModel
from server.chat.types import TemplateOptions


class TemplateFields(ApiModel):
    """Fields for the model's chat template."""

    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Variables for the model's chat template.", examples=[{}]
    )
    add_generation_prompt: bool | None = Field(
        None, description="End the prompt with the start of an assistant message; true by default.", examples=[True]
    )
    continue_final_message: bool | None = Field(
        None, description="Continue the last message instead of starting a new one.", examples=[False]
    )
    add_special_tokens: bool | None = Field(
        None, description="Prepend the model's BOS token if the template does not; false by default.", examples=[False]
    )

    @property
    def template_options(self) -> TemplateOptions:
        """Options for the chat template, with defaults for fields that are not set."""
        return TemplateOptions(
            variables=self.chat_template_kwargs or {},
            add_generation_prompt=self.add_generation_prompt is not False,
            continue_final_message=bool(self.continue_final_message),
            add_special_tokens=bool(self.add_special_tokens),
        )
