"""Openly licensed pictures found by search word through the Openverse API (section 3.4, web-crawled images)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from everymask.classes.exemplars.manifest import ExemplarFolder, Origin
from everymask.classes.exemplars.queries import Queries
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.files.download_limits import DownloadConfig, DownloadError
from everymask.files.json_text import parse_json

if TYPE_CHECKING:
    from everymask.files.download import HttpClient

logger = logging.getLogger(__name__)

MAX_PAGE_SIZE = 20
"""The API's limit for users without an account."""


@dataclass(frozen=True)
class CrawlConfig:
    """The search, and how politely it is done."""

    endpoint: str = "https://api.openverse.org/v1/images/"
    """An image search that speaks the Openverse API."""
    query: str = "{c}"
    """Search words; {c} stands for the subject's query."""
    images_per_subject: int = 200
    """Pictures of every subject."""
    licenses: tuple[str, ...] = ("cc0", "pdm", "by", "by-sa")
    """Accepted licences, as Openverse names them."""
    category: str = "photograph"
    """Kind of picture; empty for all."""
    max_pages: int = 60
    """Most pages of results read for a query."""
    threads: int = 8
    """Pictures fetched at once, mostly from different hosts."""
    download: DownloadConfig = field(default_factory=DownloadConfig)
    """Limits of the HTTP client."""

    def __post_init__(self) -> None:
        if "{c}" not in self.query:
            raise ConfigurationError(f"the query {self.query!r} does not say where the class goes; write {{c}} there")
        for name in ("images_per_subject", "max_pages", "threads"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {getattr(self, name)}")


def crawl(
    taxonomy: Taxonomy, folder: ExemplarFolder, config: CrawlConfig, queries: Queries
) -> Iterator[tuple[Origin, str | None]]:
    """Fill a folder until every subject has its pictures or the search has no more; resumes after a stop.

    Every query of a subject brings its share; later queries make up for earlier ones that find too little.

    Yields:
        each candidate with None if it was kept, or the reason why not.

    Raises:
        ConfigurationError: the search itself cannot be reached or gives no JSON.
        OutputError: the folder cannot be written.
    """
    from everymask.files.download import HttpClient

    with HttpClient(config.download) as client, ThreadPoolExecutor(config.threads) as pool:
        for subject, _ in taxonomy.subjects:
            asked = queries.of(subject)
            for number, words in enumerate(asked, start=1):
                enough = config.images_per_subject * number // len(asked)
                for page in range(1, config.max_pages + 1):
                    if folder.count(subject) >= enough:
                        break
                    found = _search(client, subject, config.query.replace("{c}", words), page, config)
                    fresh = [origin for origin in found if not folder.knows(origin)]
                    bodies = pool.map(lambda origin: _fetch(client, origin.url), fresh)
                    for origin, body in zip(fresh, bodies, strict=True):
                        if folder.count(subject) >= enough:
                            break
                        if isinstance(body, DownloadError):
                            folder.reject(origin, str(body))
                            yield origin, str(body)
                        else:
                            yield origin, folder.add(body, origin)
                    if not found:
                        break
            if folder.count(subject) < config.images_per_subject:
                logger.warning(
                    "only %d of %d pictures of %s were found", folder.count(subject), config.images_per_subject, subject
                )


def _fetch(client: HttpClient, url: str) -> bytes | DownloadError:
    try:
        return client.get(url, accept=("image/",))
    except DownloadError as error:
        return error


def _search(client: HttpClient, subject: str, query: str, page: int, config: CrawlConfig) -> list[Origin]:
    """One page of results; empty past the last."""
    params = {
        "q": query,
        "page": str(page),
        "page_size": str(MAX_PAGE_SIZE),
        "license": ",".join(config.licenses),
        "mature": "false",
    }
    if config.category:
        params["category"] = config.category
    try:
        answer = parse_json(client.get(config.endpoint, accept=("application/json",), params=params))
        results = answer["results"] if page <= int(answer.get("page_count", page)) else []
        return [_origin(subject, query, item) for item in results if _usable(item, config.licenses)]
    # AttributeError: the JSON is no object.
    except (DownloadError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"the image search at {config.endpoint} does not answer for {query!r} ({error}); what was fetched is kept, "
            "run the same command again later"
        ) from error


def _usable(item: object, licenses: tuple[str, ...]) -> bool:
    """Whether a result names a picture and an accepted licence in plain text, whatever the API was asked for."""
    if not isinstance(item, dict):
        return False
    texts = [item.get(name) or "" for name in ("license_version", "creator", "foreign_landing_url")]
    url = item.get("url")
    return bool(url) and all(isinstance(text, str) for text in [url, *texts]) and item.get("license") in licenses


def _origin(subject: str, query: str, item: dict[str, Any]) -> Origin:
    version = item.get("license_version") or ""
    return Origin(
        subject,
        "crawl",
        prompt=query,
        license=f"{item['license']} {version}".strip(),
        creator=item.get("creator") or "",
        url=item["url"],
        landing_url=item.get("foreign_landing_url") or "",
    )
