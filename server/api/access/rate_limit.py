"""Rate limits of one API key: concurrent requests and tokens per minute, and OpenAI's headers that report them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.access.api_keys import Key
from server.errors import RateLimitError

MINUTE = 60.0
BUSY_SECONDS = 1.0  # a guess at when one of the running requests ends


@dataclass(slots=True)
class RateLimit:
    """The state of one key's limits.

    running: requests now. tokens: left in the bucket as of `filled_at` (monotonic clock, seconds); the bucket is full
    after an idle minute and goes below zero after a long answer.
    """

    key: Key
    running: int = 0
    tokens: float = math.inf
    filled_at: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Count one more running request, or raise RateLimitError. `spend` charges its tokens once they are known."""
        name, concurrent, rate = self.key.name, self.key.max_concurrent, self.key.tokens_per_minute
        if concurrent is not None and self.running >= concurrent:
            message = f"The key {name} may have {concurrent} requests at once (max_concurrent)."
            raise RateLimitError(message, BUSY_SECONDS)
        if rate is not None and self._fill() < 1:
            message = f"The key {name} may use {rate:,} tokens a minute (tokens_per_minute)."
            raise RateLimitError(message, (1 - self.tokens) / rate * MINUTE)
        self.running += 1

    def spend(self, tokens: int) -> None:
        """Take tokens out of the bucket, below zero if need be: the next request waits until it is filled again."""
        self._fill()
        self.tokens -= tokens

    def end(self) -> None:
        """Count one running request less."""
        self.running -= 1

    def headers(self) -> dict[str, str]:
        """Return OpenAI's rate limit headers for the limits this key has; "requests" counts concurrent ones."""
        headers: dict[str, str] = {}
        if (concurrent := self.key.max_concurrent) is not None:
            reset = BUSY_SECONDS if self.running else 0
            headers |= _headers("requests", concurrent, concurrent - self.running, reset)
        if (rate := self.key.tokens_per_minute) is not None:
            left = self._fill()
            headers |= _headers("tokens", rate, max(0, int(left)), (rate - left) / rate * MINUTE)
        return headers

    def _fill(self) -> float:
        now, rate = time.monotonic(), self.key.tokens_per_minute
        if rate is not None:
            self.tokens = min(float(rate), self.tokens + (now - self.filled_at) * rate / MINUTE)
        self.filled_at = now
        return self.tokens


def _headers(kind: str, limit: int, remaining: int, reset: float) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{kind}": str(limit),
        f"x-ratelimit-remaining-{kind}": str(remaining),
        f"x-ratelimit-reset-{kind}": f"{reset:.3f}s",
    }


class RateLimitHeaders:
    """Middleware: adds the headers of its key's limits to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                rate_limit: RateLimit | None = scope.get("state", {}).get("rate_limit")
                MutableHeaders(scope=message).update(rate_limit.headers() if rate_limit else {})
            await send(message)

        await self._app(scope, receive, send_with_limits if scope["type"] == "http" else send)
