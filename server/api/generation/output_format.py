"""Request fields for structured output.

`response_format` is OpenAI's. `structured_outputs` and `guided_*` are vLLM's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pydantic_core
from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from server.api.http.base_model import ApiModel, Tagged, also, invalid
from server.chat.types import TextForm, TextKind

KINDS: tuple[TextKind, ...] = ("json", "regex", "choice", "grammar")
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}

Pattern = Annotated[str, StringConstraints(min_length=1)]


def _schema(value: Any) -> Any:
    """Parse a schema that was sent as text.

    A schema that is not a string is returned unchanged.
    """
    if not isinstance(value, str):
        return value
    try:
        return pydantic_core.from_json(value, allow_inf_nan=False)
    except ValueError as error:
        raise invalid(f"A JSON schema must be an object or valid JSON text: {error}.") from None


JsonSchema = Annotated[dict[str, Any] | None, BeforeValidator(_schema)]
AS_TEXT = also({"type": "string", "contentMediaType": "application/json"})


class JsonSchemaFormat(ApiModel):
    """A JSON schema for the answer."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(
        description="Up to 64 letters, digits, `_` and `-`.", examples=["answer"]
    )
    description: str | None = Field(None, description="Purpose of the schema.", examples=["A person's name and age."])
    schema_: dict[str, Any] | None = Field(
        None, alias="schema", description="The JSON schema; by default any JSON object matches.", examples=[PERSON]
    )
    strict: bool | None = Field(None, description="Accepted; schemas are always enforced.", examples=[True])


class ResponseFormat(Tagged):
    """The format of the answer."""

    type: Literal["text", "json_object", "json_schema"] = Field(
        description="Free text, any JSON object, or JSON that matches a schema."
    )
    json_schema: JsonSchemaFormat | None = Field(None, description="The schema, if `type` is `json_schema`.")
    schema_: JsonSchema = Field(
        None,
        alias="schema",
        description="The schema, if `type` is `json_object`. This is llama.cpp's way to send a schema.",
        examples=[PERSON],
        json_schema_extra=AS_TEXT,
    )

    @property
    def forms(self) -> list[TextForm]:
        """Constraints on the answer: one, or none if any text is allowed."""
        if self.type == "text":
            return []
        if self.schema_ is not None:
            return [TextForm("json", self.schema_, "response_format.schema")]
        form = self.json_schema
        schema = form.schema_ if form and form.schema_ is not None else {"type": "object"}
        return [TextForm("json", schema, "response_format.json_schema.schema")]

    @model_validator(mode="after")
    def _has_one_schema(self) -> Self:
        if self.schema_ is not None and (self.type != "json_object" or self.json_schema is not None):
            message = "schema is allowed only with type json_object. With type json_schema, use json_schema.schema."
            raise invalid(message, field=".schema")
        return self


class StructuredOutputs(ApiModel):
    """vLLM's structured output. Exactly one field must be set."""

    json_: JsonSchema = Field(
        None,
        alias="json",
        description="JSON schema, as an object or as text.",
        examples=[PERSON],
        json_schema_extra=AS_TEXT,
    )
    regex: Pattern | None = Field(
        None, description="Regular expression that the whole text must match.", examples=["[A-Z]{2}[0-9]{4}"]
    )
    choice: list[Pattern] | None = Field(
        None, min_length=1, description="Texts to choose from.", examples=[["yes", "no"]]
    )
    grammar: Pattern | None = Field(
        None, description="Context-free grammar in Lark or GBNF syntax.", examples=['start: "yes" | "no"']
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.forms("")) != 1:
            raise invalid(f"structured_outputs requires exactly one of {', '.join(KINDS)}.")
        return self

    def forms(self, field: str) -> list[TextForm]:
        """Return one constraint per field that is set.

        field: path of this object in the request, for error messages.
        """
        given = zip(KINDS, (self.json_, self.regex, self.choice, self.grammar), strict=True)
        return [TextForm(kind, value, f"{field}.{kind}") for kind, value in given if value is not None]


class TextFormFields(ApiModel):
    """Request fields for structured output."""

    response_format: ResponseFormat | None = Field(None, description="Format of the answer; always enforced.")
    structured_outputs: StructuredOutputs | None = Field(
        None, description="Format of the answer, as in vLLM's API; always enforced."
    )
    guided_json: JsonSchema = Field(
        None,
        description="Deprecated name of `structured_outputs.json`.",
        examples=[PERSON],
        json_schema_extra=AS_TEXT,
    )
    guided_regex: Pattern | None = Field(
        None, description="Deprecated name of `structured_outputs.regex`.", examples=["[0-9]+"]
    )
    guided_choice: list[Pattern] | None = Field(
        None, min_length=1, description="Deprecated name of `structured_outputs.choice`.", examples=[["yes", "no"]]
    )
    guided_grammar: Pattern | None = Field(
        None, description="Deprecated name of `structured_outputs.grammar`.", examples=['start: "yes" | "no"']
    )

    @property
    def text_form(self) -> TextForm | None:
        """The constraint on the answer; None if any text is allowed."""
        return next(iter(self._forms()), None)

    def _forms(self) -> list[TextForm]:
        forms = self.response_format.forms if self.response_format is not None else []
        if self.structured_outputs is not None:
            forms += self.structured_outputs.forms("structured_outputs")
        old = [(kind, getattr(self, f"guided_{kind}")) for kind in KINDS]
        return forms + [TextForm(kind, value, f"guided_{kind}") for kind, value in old if value is not None]

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        if len(forms := self._forms()) > 1:
            fields = [form.field.partition(".")[0] for form in forms]
            message = f"The fields {' and '.join(fields)} set the format of the answer: send only one of them."
            raise invalid(message, field=fields[-1])
        return self
