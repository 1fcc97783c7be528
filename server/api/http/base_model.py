"""Base classes of the request models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class ApiModel(BaseModel):
    """Base of the request models.

    Types are strict: a quoted number is an error. Unknown fields are ignored.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def null_as(default: str) -> BeforeValidator:
    """Return a validator that replaces null by the field's default."""
    return BeforeValidator(lambda value: default if value is None else value)


def invalid(message: str, code: str = "invalid_value", field: str = "") -> PydanticCustomError:
    """Return a validation error, which becomes a 400.

    field: path within the validated value, such as `.content`.
    """
    return PydanticCustomError(code, "{message}", {"message": message, "field": field})


def union_tag(kind: str) -> str:
    """Return the tag of a type in a union: "text" -> `<text>`.

    The brackets tell `api_error` that the tag is not a request field.
    """
    return f"<{kind}>"


class Tagged(ApiModel):
    """An object whose `type` names the field that holds its content.

    Example: {"type": "function", "function": {...}}. Some types have no content, as in {"type": "auto"}.
    """

    type: str

    @model_validator(mode="after")
    def _has_the_field_of_its_type(self) -> Self:
        if getattr(self, self.type, self) is None:
            message = f"An object of type {self.type} requires the field `{self.type}`."
            raise invalid(message, "missing_required_parameter", f".{self.type}")
        return self


def also(form: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Return a `json_schema_extra` that documents a second form of a nullable field.

    form: JSON schema of the second form, such as {"type": "string"}.
    """
    return lambda schema: schema["anyOf"].insert(0, form)  # a nullable field has an anyOf
