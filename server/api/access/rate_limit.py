"""What a key uses of what it may: requests at once, and tokens a minute. Tells it in OpenAI's headers."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.access.api_keys import Key
from server.errors import RateLimitError

MINUTE = 60.0
BUSY_SECONDS = 1.0  # nobody knows when one of the running requests ends


@dataclass(slots=True)
class Quota:
    """One key's use. Tokens are a bucket: full after an idle minute, below nothing after a long answer."""

    key: Key
    running: int = 0
    tokens: float = math.inf
    filled_at: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Take up a request, or raise RateLimitError. What it takes in tokens is known only later: see `spend`."""
        name, at_once, rate = self.key.name, self.key.max_concurrent, self.key.tokens_per_minute
        if at_once is not None and self.running >= at_once:
            raise RateLimitError(f"The key {name} may have {at_once} requests at once (max_concurrent).", BUSY_SECONDS)
        if rate is not None and self._fill() < 1:
            message = f"The key {name} may use {rate:,} tokens a minute (tokens_per_minute)."
            raise RateLimitError(message, (1 - self.tokens) / rate * MINUTE)
        self.running += 1

    def spend(self, tokens: int) -> None:
        """Take tokens out, even those that are not there: the next request waits for them."""
        self._fill()
        self.tokens -= tokens

    def end(self) -> None:
        """A request that was begun has ended."""
        self.running -= 1

    def headers(self) -> dict[str, str]:
        """The limits there are, as OpenAI tells them; "requests" are those at once."""
        told: dict[str, str] = {}
        if (at_once := self.key.max_concurrent) is not None:
            told |= _headers("requests", at_once, at_once - self.running, BUSY_SECONDS if self.running else 0)
        if (rate := self.key.tokens_per_minute) is not None:
            left = self._fill()
            told |= _headers("tokens", rate, max(0, int(left)), (rate - left) / rate * MINUTE)
        return told

    def _fill(self) -> float:
        now, rate = time.monotonic(), self.key.tokens_per_minute
        if rate is not None:
            self.tokens = min(float(rate), self.tokens + (now - self.filled_at) * rate / MINUTE)
        self.filled_at = now
        return self.tokens


def _headers(what: str, limit: int, remaining: int, reset: float) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{what}": str(limit),
        f"x-ratelimit-remaining-{what}": str(remaining),
        f"x-ratelimit-reset-{what}": f"{reset:.3f}s",
    }


class QuotaHeaders:
    """Middleware: tells in every answer to a key with limits what is left of them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_quota(message: Message) -> None:
            if message["type"] == "http.response.start":
                quota: Quota | None = scope.get("state", {}).get("quota")
                MutableHeaders(scope=message).update(quota.headers() if quota else {})
            await send(message)

        await self._app(scope, receive, send_with_quota if scope["type"] == "http" else send)
