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
    """Return the tag of one type in a union of types, such as `<text>` for "text".

    Pydantic includes the tag in the location of an error. The angle brackets show that it is not a field of the
    request, so `api_error` leaves it out of the path.
    """
    return f"<{kind}>"


class Tagged(ApiModel):
    """An object whose `type` is the name of the field with its content.

    Example: {"type": "function", "function": {...}}. A type without a field of the same name has no content.
    """

    type: str

    @model_validator(mode="after")
    def _has_the_field_of_its_type(self) -> Self:
        if getattr(self, self.type, self) is None:
            message = f"An object of type {self.type} requires the field {self.type}."
            raise invalid(message, "missing_required_parameter", f".{self.type}")
        return self


def also(form: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Return a `json_schema_extra` that documents a second form of a field.

    form: JSON schema of the second form. Example: {"type": "string"}, for an object that can also be sent as text.

    The field must be nullable, so that its JSON schema has an `anyOf`, the list to which the form is added.
    """
    return lambda schema: schema["anyOf"].insert(0, form)
