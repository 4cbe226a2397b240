"""API keys: read once, kept as digests, compared in constant time, never logged."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from everymask.errors import ConfigurationError


class ApiKeys:
    """The keys that open the service; with none configured it is open to everyone."""

    def __init__(self, keys: list[str] | None) -> None:
        self._digests = None if keys is None else [_digest(key) for key in keys]

    @classmethod
    def from_file(cls, path: Path | None) -> ApiKeys:
        """One key a line; blank lines and lines that begin with # are skipped.

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

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        return self._digests is not None

    def allow(self, authorization: str | None) -> bool:
        """Whether an `Authorization` header (`Bearer KEY`) opens the service."""
        if self._digests is None:
            return True
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        # Every key is compared, whichever matches, so that time tells nothing.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(matches) and scheme.lower() == "bearer"


def _digest(key: str) -> bytes:
    """Digests have one length, so that comparing them does not tell a key's."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
