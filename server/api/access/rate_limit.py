"""Rate limits of an API key, and the headers that report them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.access.api_keys import Key
from server.api.access.quota import Quota
from server.api.http.dialect import dialect_of
from server.errors import RateLimitError

MINUTE = 60.0
BUSY_SECONDS = 1.0  # a guess at the time until one of the running requests ends


@dataclass(slots=True)
class RateLimit:
    """One key's current use of its limits.

    Requests take their tokens from a bucket. An empty bucket refills to `tokens_per_minute` tokens in a minute.

    running: number of requests running now.
    tokens: number of tokens left in the bucket; negative if requests used more than it contained.
    filled_at: time of the last refill, in monotonic seconds.
    """

    key: Key
    running: int = 0
    tokens: float = math.inf
    filled_at: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Add one to the running requests.

        The request's tokens are charged later, with `spend`.

        Raises RateLimitError if the key has reached a limit.
        """
        name, concurrent, rate = self.key.name, self.key.max_concurrent, self.key.tokens_per_minute
        if concurrent is not None and self.running >= concurrent:
            message = f"The key {name} has reached its limit on concurrent requests (max_concurrent = {concurrent})."
            raise RateLimitError(message, BUSY_SECONDS)
        if rate is not None and self._fill() < 1:
            message = f"The key {name} has reached its limit on tokens per minute (tokens_per_minute = {rate})."
            raise RateLimitError(message, (1 - self.tokens) / rate * MINUTE)
        self.running += 1

    def spend(self, tokens: int) -> None:
        """Take tokens out of the bucket.

        New requests are refused while the bucket holds less than one token.
        """
        self._fill()
        self.tokens -= tokens

    def end(self) -> None:
        """Subtract one from the running requests."""
        self.running -= 1

    def quotas(self) -> list[Quota]:
        """Return the limits of this key and what remains of each."""
        quotas: list[Quota] = []
        if (concurrent := self.key.max_concurrent) is not None:
            reset = BUSY_SECONDS if self.running else 0
            quotas.append(Quota("requests", concurrent, concurrent - self.running, reset))
        if (rate := self.key.tokens_per_minute) is not None:
            left = self._fill()
            quotas.append(Quota("tokens", rate, max(0, int(left)), (rate - left) / rate * MINUTE))
        return quotas

    def _fill(self) -> float:
        now, rate = time.monotonic(), self.key.tokens_per_minute
        if rate is not None:
            self.tokens = min(float(rate), self.tokens + (now - self.filled_at) * rate / MINUTE)
        self.filled_at = now
        return self.tokens


class RateLimitHeaders:
    """Middleware that adds rate limit headers to responses if the API key has limits."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                rate_limit: RateLimit | None = scope["state"].get("rate_limit")
                for quota in rate_limit.quotas() if rate_limit else ():
                    MutableHeaders(scope=message).update(dialect_of(scope).quota_headers(quota))
            await send(message)

        await self._app(scope, receive, send_with_limits if scope["type"] == "http" else send)
