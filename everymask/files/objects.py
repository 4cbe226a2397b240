"""Objects of S3 with the fewest requests: a prefix page by page, an object by one GET.

pyarrow answers a listing only once it is whole, and asks for an object's size before it reads it. botocore, which the
extra `cloud` installs, does neither. Without it, and on other storage, pyarrow does both.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

import pyarrow.fs as pafs

from everymask.files.storage import one_line

_CONNECT_S, _READ_S = 10, 30
_LISTING_ATTEMPTS = 7  # of botocore's own, with pauses of half a minute in all
_CONNECTIONS = 32
_FOUND = "everymask.found"


def pages(filesystem: pafs.FileSystem, folder: str) -> Iterator[list[pafs.FileInfo]]:
    """What a folder holds, its subfolders not entered: from S3 a thousand entries at a time, else all at once.

    A folder that is not there is empty. Pages of S3 come in the order of their names.

    Raises:
        OSError: it cannot be listed.
    """
    client = _client_of(filesystem, _LISTING_ATTEMPTS)
    if client is None:
        yield filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
        return
    bucket, _, path = folder.partition("/")
    prefix = f"{path.rstrip('/')}/" if path.strip("/") else ""
    answers = iter(client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"))
    while True:
        with _as_os_error():
            answer = next(answers, None)
        if answer is None:
            return
        yield [
            *(_file(bucket, *found) for found in answer[_FOUND] if not found[0].endswith("/")),
            *(_folder(f"{bucket}/{item['Prefix']}") for item in answer.get("CommonPrefixes", ())),
        ]


def read(filesystem: pafs.FileSystem, path: str, check: Callable[[int], None]) -> bytes | None:
    """A whole object of S3; None where it takes more than one request, which is left to pyarrow.

    Args:
        filesystem: any.
        path: inside it.
        check: gets the object's number of bytes before they are read, and raises if they are too many.

    Raises:
        OSError: it cannot be read; FileNotFoundError and PermissionError are OSErrors, too.
    """
    bucket, _, key = path.partition("/")
    client = _client_of(filesystem, 1) if key else None
    if client is None:
        return None
    with _as_os_error():
        answer = client.get_object(Bucket=bucket, Key=key)
    with answer["Body"] as body:
        check(answer["ContentLength"])
        with _as_os_error():
            return bytes(body.read())


def _take_objects(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Read the objects of a page in botocore's place, whose own parser takes ten times as long for them."""
    customized_response_dict[_FOUND] = []
    if response_dict["status_code"] != 200:
        return
    page = ElementTree.fromstring(response_dict["body"])
    space = page.tag.removesuffix("ListBucketResult")
    decoded = unquote_plus if page.findtext(f"{space}EncodingType") == "url" else str
    for item in page.findall(f"{space}Contents"):
        key, size, changed = (item.findtext(space + name) or "" for name in ("Key", "Size", "LastModified"))
        customized_response_dict[_FOUND].append((decoded(key), int(size), datetime.fromisoformat(changed)))
        page.remove(item)
    response_dict["body"] = ElementTree.tostring(page)


def _file(bucket: str, key: str, size: int, changed: datetime) -> pafs.FileInfo:
    mtime_ns = int(changed.timestamp()) * 10**9 + changed.microsecond * 1000
    return pafs.FileInfo(f"{bucket}/{key}", pafs.FileType.File, size=size, mtime_ns=mtime_ns)


def _folder(path: str) -> pafs.FileInfo:
    return pafs.FileInfo(path.rstrip("/"), pafs.FileType.Directory)


def _client_of(filesystem: pafs.FileSystem, attempts: int) -> Any:
    """botocore's client for a file system; None where it does not serve it."""
    if not isinstance(filesystem, pafs.S3FileSystem):
        return None
    # As pickle sees it: pyarrow shows its options nowhere else.
    options = filesystem.__reduce__()[1][0]
    if options["role_arn"]:
        return None
    return _client(options["region"], options["scheme"], options["endpoint_override"], options["anonymous"], attempts)


@lru_cache(maxsize=64)
def _client(region: str, scheme: str, server: str, anonymous: bool, attempts: int) -> Any:
    try:
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.session import Session
    except ImportError:
        return None
    session = Session()
    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        max_pool_connections=_CONNECTIONS,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        s3={"addressing_style": "path"} if server else None,
        signature_version=UNSIGNED if anonymous or session.get_credentials() is None else None,
    )
    address = f"{scheme or 'https'}://{server}" if server else None
    client = session.create_client("s3", region_name=region or None, endpoint_url=address, config=config)
    client.meta.events.register("before-parse.s3.ListObjectsV2", _take_objects)
    return client


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Errors of botocore become those of files."""
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        number = {404: errno.ENOENT, 403: errno.EACCES}.get(status, errno.EIO)
        raise OSError(number, one_line(error)) from error
    except BotoCoreError as error:
        number = errno.EINVAL if isinstance(error, ParamValidationError) else errno.EIO
        raise OSError(number, one_line(error)) from error
