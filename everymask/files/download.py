"""An HTTP client with limits on rate, size, time, type, redirects and addresses, and with retries."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from email.utils import parsedate_to_datetime
from types import TracebackType

import httpx

import everymask
from everymask.files.connections import CheckedTransport, deadline, remaining_s
from everymask.files.download_limits import DownloadConfig, DownloadError
from everymask.redaction import redact

RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class HttpClient:
    """Fetches web addresses; thread-safe.

    Proxies from the environment are ignored, because the address behind one cannot be checked.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self._config = config
        self._limiter = _HostLimiter(config.requests_per_second)
        self._client = httpx.Client(
            transport=CheckedTransport(config.networks),
            follow_redirects=True,
            max_redirects=config.max_redirects,
            timeout=config.timeout_s,
            trust_env=False,
            headers={
                "User-Agent": f"everymask/{everymask.__version__} (collects openly licensed exemplars)",
                # A compressed answer may be a thousand times its size; what is compressed all the same is refused.
                "Accept-Encoding": "identity",
            },
        )

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def get(
        self,
        url: str,
        accept: tuple[str, ...],
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """The body of one http or https address.

        `accept` lists prefixes of acceptable content types.

        Raises:
            DownloadError: refused, too large, too slow, of another type, or all retries failed.
        """
        try:
            self._limiter.wait(httpx.URL(url).host)
            with deadline(self._config.max_total_s):
                return self._with_retries(url, accept, params, headers)
        except DownloadError:
            raise
        except httpx.TooManyRedirects as error:
            raise DownloadError(f"more than {self._config.max_redirects} redirects") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError) as error:
            raise DownloadError(f"not a web address: {redact(str(error))}") from error
        except Exception as error:  # a hostile address or answer makes the libraries below raise nearly anything
            raise DownloadError(redact(f"{type(error).__name__}: {error}")) from error

    def _with_retries(
        self, url: str, accept: tuple[str, ...], params: dict[str, str] | None, headers: dict[str, str] | None
    ) -> bytes:
        for attempt in range(self._config.retries + 1):
            if attempt:
                self._limiter.wait(httpx.URL(url).host)
            try:
                status, retry_after, body = self._attempt(url, accept, params, headers)
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError):
                raise
            except httpx.TransportError as error:
                if remaining_s() <= 0:
                    raise
                status, retry_after, body = None, 0.0, b""
                reason = redact(f"{type(error).__name__}: {error}")
            else:
                reason = f"status {status}"
            if status is not None and status < 400:
                return body
            if status is not None and status not in RETRIED_STATUS:
                raise DownloadError(reason)
            if attempt < self._config.retries:
                pause = self._config.backoff_s * 2**attempt * random.uniform(0.75, 1.25)
                pause = min(max(pause, retry_after), 60.0)
                if pause >= remaining_s():
                    raise DownloadError(f"{reason}, and no time is left to try again")
                time.sleep(pause)
        raise DownloadError(f"{reason}, after {self._config.retries + 1} attempts")

    def _attempt(
        self, url: str, accept: tuple[str, ...], params: dict[str, str] | None, headers: dict[str, str] | None
    ) -> tuple[int, float, bytes]:
        """Status, seconds the server asks to wait, and the body on success."""
        with self._client.stream("GET", url, params=params, headers=headers) as response:
            if response.status_code >= 400:
                return response.status_code, _retry_after(response.headers.get("retry-after", "")), b""
            kind = response.headers.get("content-type", "").lower()
            if not kind.startswith(accept):
                raise DownloadError(f"content type {kind[:80] or 'missing'} is not {' or '.join(accept)}")
            encoding = response.headers.get("content-encoding", "identity").lower()
            if encoding != "identity":
                raise DownloadError(f"the answer is compressed ({encoding[:80]}), which was not asked for")
            length = response.headers.get("content-length", "")
            if length.isdecimal() and int(length[:20]) > self._config.max_bytes:
                raise DownloadError(f"more than {self._config.max_bytes:,} bytes")
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > self._config.max_bytes:
                    raise DownloadError(f"more than {self._config.max_bytes:,} bytes")
            return response.status_code, 0.0, bytes(body)


class _HostLimiter:
    """Spaces requests to each host evenly."""

    def __init__(self, requests_per_second: float) -> None:
        self._interval = 1.0 / requests_per_second
        self._next: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def wait(self, host: str) -> None:
        """Wait until a request to `host` may be sent."""
        with self._lock:
            start = max(self._next[host], time.monotonic())
            self._next[host] = start + self._interval
        time.sleep(max(0.0, start - time.monotonic()))


def _retry_after(value: str) -> float:
    """Seconds from a Retry-After header, a number or a date; 0 for neither."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
