"""The server's API keys, read from a file and kept as hashes."""

from __future__ import annotations

import hashlib
import hmac
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from server.errors import StartupError

HASHED = "sha256:"


@dataclass(frozen=True, slots=True)
class Key:
    """A named API key and its limits. A limit of None means unlimited.

    digest: SHA-256 of the secret that clients send.
    max_concurrent: maximum number of requests at once.
    tokens_per_minute: maximum number of tokens in prompts and answers per minute.
    """

    name: str
    digest: bytes
    max_concurrent: int | None = None
    tokens_per_minute: int | None = None


class Keyring:
    """All API keys that the server accepts."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, secret: bytes) -> Key | None:
        """Return the key with this secret; None if there is none.

        Takes constant time, so that timing does not help to guess a key.
        """
        digest = hashlib.sha256(secret).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def plain_key(name: str, secret: str) -> Key:
    """Return a key without limits."""
    return Key(name, _digest(secret))


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    key: str = Field(min_length=1)
    max_concurrent: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)


_ENTRIES = TypeAdapter(dict[str, _Entry])


def read_keys(path: Path) -> Sequence[Key]:
    """Read the API keys from a TOML file with one table per key.

    Example of a key named "ann":

        [ann]
        key = "sk-1234"  # or "sha256:" and the key's SHA-256 hash in hexadecimal
        max_concurrent = 4  # optional
        tokens_per_minute = 10000  # optional

    Raises StartupError if the file is unreadable, invalid or empty. The error message quotes no key.
    """
    try:
        entries = _ENTRIES.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
        if not entries:
            raise ValueError("there is no key in this file")
        return [_key(name, entry) for name, entry in entries.items()]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise StartupError(f"--api-keys-file: {path}: {where}: {first['msg']}.") from None
    except (OSError, ValueError) as error:
        raise StartupError(f"--api-keys-file: {path}: {error}.") from None


def _key(name: str, entry: _Entry) -> Key:
    if not entry.key.startswith(HASHED):
        digest = _digest(entry.key)
    else:
        digest = bytes.fromhex(entry.key.removeprefix(HASHED))
        if len(digest) != hashlib.sha256().digest_size:
            raise ValueError(f"{name}.key: 'sha256:' must be followed by 64 hexadecimal digits")
    return Key(name, digest, entry.max_concurrent, entry.tokens_per_minute)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
