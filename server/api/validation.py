"""What every request's model is made of. Validators complain with `invalid`; `server.api.errors` tells the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class ApiModel(BaseModel):
    """Strict: a number in quotes is no number. What it does not know it ignores."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def invalid(message: str, code: str = "invalid_value", field: str = "") -> PydanticCustomError:
    """A validator's complaint; `field` is where below the validated value it lies, as in `.content`."""
    return PydanticCustomError(code, "{message}", {"message": message, "field": field})


def also(form: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """For `json_schema_extra` of a field that may be null: it may be of this form, too."""
    return lambda schema: schema["anyOf"].insert(0, form)
