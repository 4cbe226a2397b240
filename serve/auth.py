"""API keys: read once, kept as digests, compared in constant time, never logged."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

from everymask.errors import ConfigurationError

_OWNER_LENGTH = 16
"""Digits of a key's digest: enough to distinguish owners, too few to look the key up."""


class ApiKeys:
    """The keys that open the service; without any it is open to everyone."""

    def __init__(self, keys: list[str] | None) -> None:
        self._digests = None if keys is None else [_digest(key) for key in keys]

    @classmethod
    def from_file(cls, path: Path | None) -> ApiKeys:
        """Read one key a line, skipping blank lines and lines that begin with #.

        Raises:
            ConfigurationError: the file cannot be read or holds no key.
        """
        if path is None:
            return cls(None)
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"api_keys_file {path} cannot be read ({type(error).__name__})") from error
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise ConfigurationError(f"api_keys_file {path} holds no key; write one a line, or leave the option out")
        return cls(keys)

    def owner(self, authorization: str | None, token: str | None = None) -> str | None:
        """An owner's name derived from the key that opened the service, "" without keys; None if no key is right.

        A key comes as `Authorization: Bearer KEY`, as the password of `Authorization: Basic` (Label Studio), or in the
        header `Token` (X-AnyLabeling).
        """
        if self._digests is None:
            return ""
        owner = None
        for key in _given_keys(authorization or "", token):
            given = _digest(key.strip())
            # Every key is compared, whichever matches, so that time tells nothing.
            matches = [hmac.compare_digest(given, digest) for digest in self._digests]
            if any(matches):
                owner = given.hex()[:_OWNER_LENGTH]
        return owner


def _given_keys(authorization: str, token: str | None) -> list[str]:
    keys = [] if token is None else [token]
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        keys.append(credentials)
    elif scheme.lower() == "basic":
        try:
            keys.append(base64.b64decode(credentials, validate=True).decode().partition(":")[2])
        except ValueError:
            return keys
    return keys


def _digest(key: str) -> bytes:
    """A digest, so that all have one length and comparing reveals no key's length."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
