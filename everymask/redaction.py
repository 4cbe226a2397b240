"""Removes secrets from addresses before they are stored or printed.

An address may hold a user name and password, an access token or a presigned signature. Readers of a label store, a log
or an error message need to know which file was meant, not how to open it. Secrets become `***`; the rest of the address
stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar, cast
from urllib.parse import unquote_plus

REPLACEMENT = "***"

_Value = TypeVar("_Value")

_ADDRESS = re.compile(
    # Chained addresses (zip://inner::https://outer) are taken one by one. Schemes have a bound: a long word that is no
    # address would be walked again from each of its letters.
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,31})://(?P<rest>(?:(?!::[a-z][a-z0-9+.-]{0,31}://)[^\s'\"<>`|])+)",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"(?P<before>[?&;#])(?P<name>[^=&;#?]*)=(?P<value>[^&;#?]*)")
# In these schemes the @ follows a storage container, or a login name that opens nothing without its password.
_SCHEMES_WITH_NAMES = frozenset({"abfs", "abfss", "wasb", "wasbs", "hdfs", "sftp", "ssh", "scp"})
_SECRET_NAME = re.compile(
    "accessid|auth|bearer|cookie|credential|hdn|hmac|jwt|key|pass|policy|pwd|secret|session|sig|ticket|token"
)
_SHORT_SECRET_NAMES = frozenset({"ak", "code", "h", "hash", "hm", "oh", "pw", "qak", "s", "sas", "sid", "sk", "st"})
_HARMLESS_NAMES = frozenset(
    {"endpoint_override", "generation", "region", "scheme", "versionid", "x-amz-algorithm", "x-amz-signedheaders"}
    | {"x-goog-algorithm", "x-goog-signedheaders", "response-content-disposition", "response-content-type"}
)
# A value of an unknown parameter that looks like a token: long, in one piece, with a digit (our choice).
_TOKEN = re.compile(r"(?=.*[0-9])([A-Za-z0-9_~+=/ -]{24,}|[A-Za-z0-9_~+=/ -]{16,}(\.[A-Za-z0-9_~+=/ -]{16,})+)")


def redact(text: str) -> str:
    """`text` with the secrets of its addresses replaced by `***`; idempotent.

    Removed are user names and passwords before the host, and parameter values (in query or fragment) whose name
    suggests a secret or that look like a token. A secret inside a path is not recognised. `text` may be an address, a
    command line or any other text.
    """
    return _ADDRESS.sub(_without_secrets, text)


def redact_all(value: _Value) -> _Value:
    """`redact` on every string in nested mappings, lists and tuples; other values stay."""
    return cast(_Value, _redacted(value))


def _redacted(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: _redacted(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_redacted(item) for item in value)
    return value


def _without_secrets(address: re.Match[str]) -> str:
    scheme, rest = address["scheme"], address["rest"]
    end = min((position for mark in "/?#" if (position := rest.find(mark)) >= 0), default=len(rest))
    port = rest[:end].rpartition(":")[2]
    if "@" not in rest[:end] and ":" in rest[:end] and not port.isdecimal() and not port.endswith("]"):
        # No host ends so: it is a user name and a password that holds one of the marks, as keys of S3 do.
        end = max(end, rest.find("@") + 1)
        end += len(re.split("[/?#]", rest[end:], maxsplit=1)[0])
    user, at, host = rest[:end].rpartition("@")
    if at and (scheme.lower() not in _SCHEMES_WITH_NAMES or ":" in user):
        user = REPLACEMENT
    return f"{scheme}://{user}{at}{host}{_PARAMETER.sub(_without_value, rest[end:])}"


def _without_value(parameter: re.Match[str]) -> str:
    value = REPLACEMENT if _is_secret(parameter["name"], parameter["value"]) else parameter["value"]
    return f"{parameter['before']}{parameter['name']}={value}"


def _is_secret(name: str, value: str) -> bool:
    plain = unquote_plus(name).lower()
    letters = re.sub("[^a-z]", "", plain)
    if plain in _HARMLESS_NAMES:
        return False
    inner = unquote_plus(value)
    if letters in _SHORT_SECRET_NAMES or _SECRET_NAME.search(letters) or _TOKEN.fullmatch(inner):
        return True
    return "://" in inner and redact(inner) != inner
