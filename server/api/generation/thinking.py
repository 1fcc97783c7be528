"""Request fields for the thoughts before an answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from server.api.http.base_model import ApiModel
from server.chat.thinking import Effort, Thinking

EffortField = Annotated[
    Effort | None,
    Field(
        description="How much to think: sets `thinking_token_budget` to the server's number for this effort.",
        examples=["low"],
    ),
]


class ThinkingFields(ApiModel):
    """Request fields for the thoughts before an answer.

    They have no effect if the model does not think.
    """

    thinking_token_budget: int | None = Field(
        None,
        ge=0,
        description="Maximum tokens of thoughts; the answer then begins. 0 turns thinking off. By default, the "
        "server's setting.",
        examples=[512],
    )
    include_reasoning: bool | None = Field(
        None, description="Return the thoughts; true by default. Their tokens are counted in any case.", examples=[True]
    )

    def requested_thinking(self, effort: Effort | None) -> Thinking:
        """Return the request's settings for thoughts.

        effort: value of the protocol's effort field, such as `reasoning_effort`; None if it is not set.
        """
        return Thinking(self.thinking_token_budget, effort, self.include_reasoning is not False)
