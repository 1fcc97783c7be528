"""Base classes of the request models, and how validators report a wrong value.

A validator raises what `invalid` returns; `server.api.http.errors` turns it into the client's 400.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class ApiModel(BaseModel):
    """Strict: a number in quotes is no number. What it does not know it ignores."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def invalid(message: str, code: str = "invalid_value", field: str = "") -> PydanticCustomError:
    """A validator's complaint; `field` is where below the validated value it lies, as in `.content`."""
    return PydanticCustomError(code, "{message}", {"message": message, "field": field})


class Tagged(ApiModel):
    """An object whose `type` names the field that holds the rest, as in {"type": "function", "function": {...}}."""

    type: str

    @model_validator(mode="after")
    def _has_what_its_type_names(self) -> Self:
        if getattr(self, self.type, self) is None:
            message = f"An object of type {self.type} needs the field {self.type}."
            raise invalid(message, "missing_required_parameter", f".{self.type}")
        return self


def also(form: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """For `json_schema_extra` of a field that may be null: it may be of this form, too."""
    return lambda schema: schema["anyOf"].insert(0, form)
