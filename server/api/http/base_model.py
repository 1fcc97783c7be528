"""Base classes of the request models.

Validators raise the error that `invalid` returns. `server.api.http.api_error` turns it into a 400.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class ApiModel(BaseModel):
    """Base of the request models.

    Types are strict: a quoted number is an error. Unknown fields are ignored.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def invalid(message: str, code: str = "invalid_value", field: str = "") -> PydanticCustomError:
    """Return a validation error.

    field: path of the invalid field within the validated value, such as `.content`.
    """
    return PydanticCustomError(code, "{message}", {"message": message, "field": field})


def union_tag(kind: str) -> str:
    """Return the tag of a member of a discriminated union.

    Paths of fields in errors leave out steps with this form, because they are not fields of the request.
    """
    return f"<{kind}>"


class Tagged(ApiModel):
    """An object with the field `type` and a field whose name is the value of `type`.

    Example: {"type": "function", "function": {...}}.
    """

    type: str

    @model_validator(mode="after")
    def _has_the_field_of_its_type(self) -> Self:
        if getattr(self, self.type, self) is None:
            message = f"An object of type {self.type} requires the field {self.type}."
            raise invalid(message, "missing_required_parameter", f".{self.type}")
        return self


def also(form: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Return a `json_schema_extra` that adds an alternative to a field's JSON schema.

    form: JSON schema of the alternative. Example: {"type": "string"}, for an object that can also be sent as text.

    The field must be nullable, so that its schema is an `anyOf`. The alternative is added to this `anyOf`.
    """
    return lambda schema: schema["anyOf"].insert(0, form)
