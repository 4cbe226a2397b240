"""The page's server for one label store: lists, pictures, corrections and clicks over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import ui
from browse.answers import card, detail, store_facts
from browse.collection import Collection, LabelledAnewError, Looked, UnknownImageError
from browse.guard import Guard
from browse.pictures import PictureError, Pictures
from browse.requests import (
    MOST_IMAGES_AT_ONCE,
    read_image_id,
    read_number,
    read_object,
    read_prompt,
    read_query,
    read_text,
    read_wish,
    whole_number,
)
from everymask.errors import EverymaskError, InputError, OutputError
from everymask.labels.correction_log import CorrectionConflictError
from ui.client import ServiceClient, ServiceProblem

_STATIC = Path(__file__).resolve().parent / "static"
_SHARED = Path(ui.__file__).resolve().parent / "static"
_SHARED_SCRIPTS = ("masks.js", "colours.js")
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_MOST_CARDS = 200
_FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}


@dataclass(frozen=True)
class Page:
    """The handlers.

    Attributes:
        service: turns clicks into masks; None if there is none.
        annotator: default name for corrections.
    """

    collection: Collection
    pictures: Pictures
    service: ServiceClient | None
    annotator: str

    def store(self, request: Request) -> Response:
        """The store's totals."""
        return _json(store_facts(self.collection, self.annotator, self.service is not None))

    def images(self, request: Request) -> Response:
        """Images of a list, from number `first` on."""
        params = request.query_params
        view = self.collection.view
        first = read_number(params, "first", 0, 10**9)
        count = read_number(params, "count", 60, _MOST_CARDS)
        epoch, _, version = params.get("list", "").partition(".")
        known = whole_number(version) if epoch == str(self.collection.epoch) else None
        found, number = view.find(read_query(params), known)
        return _json(
            {
                "matched": len(found),
                "first": first,
                "list": f"{self.collection.epoch}.{number}",
                "images": [card(view, position) for position in found[first : first + count].tolist()],
            }
        )

    def classes(self, request: Request) -> Response:
        """Number of masks by class in a list's images."""
        view = self.collection.view
        found, _ = view.find(read_query(request.query_params))
        return _json({"masks": [{"id": key, "count": count} for key, count in view.classes(found).items()]})

    def image(self, request: Request) -> Response:
        return _json(detail(self.collection.look(request.query_params.get("id", ""))))

    def thumbnail(self, request: Request) -> Response:
        """A small picture; `plain` without masks."""
        params, view = request.query_params, self.collection.view
        image_id, masks = params.get("id", ""), "plain" not in params
        position = view.positions([image_id]).get(image_id)
        if position is None:
            raise UnknownImageError(f"the store has no image {image_id!r}")
        signature = view.signature(position)
        kept = self.pictures.kept(image_id, signature, masks)
        found = kept or self.pictures.thumbnail(self.collection.look(image_id), signature, masks)
        return _picture(found, params.get("v") == signature)

    def picture(self, request: Request) -> Response:
        params = request.query_params
        looked = self.collection.look(params.get("id", ""))
        return _picture(self.pictures.large(looked), params.get("v") == (looked.row.content_sha256 or "")[:16])

    def steps(self, request: Request, body: bytes) -> Response:
        """Keep a person's steps on some images; the answer says for each what was kept, or why not."""
        content = read_object(body)
        wishes = content.get("images")
        if not isinstance(wishes, list) or not 0 < len(wishes) <= MOST_IMAGES_AT_ONCE:
            raise InputError(f"images lists 1 to {MOST_IMAGES_AT_ONCE} wishes")
        kept = self.collection.correct([read_wish(wish) for wish in wishes], read_text(content, "annotator", 200))
        return _json({"images": [self._outcome(one) for one in kept]})

    def undo(self, request: Request, body: bytes) -> Response:
        """Take back a person's last step on an image."""
        content = read_object(body)
        seen = content.get("seen")
        seen = [word for word in seen if isinstance(word, str)] if isinstance(seen, list) else []
        try:
            one: Looked | EverymaskError = self.collection.undo(
                read_image_id(content), seen, read_text(content, "annotator", 200)
            )
        except (CorrectionConflictError, InputError) as error:
            one = error
        return _json({"images": [self._outcome(one)]})

    def click(self, request: Request, body: bytes) -> Response:
        """Masks from the service for some clicks."""
        content = read_object(body)
        if self.service is None:
            raise InputError("no service makes masks of clicks; start this page with --service")
        prompt = read_prompt(content)
        looked = self.collection.look(read_image_id(content))
        answer = self.service.points(self.pictures.bytes_of(looked), str(looked.row.content_sha256), prompt)
        fields = ("rle", "bbox", "area", "score", "predicted_iou")
        return _json({"masks": [{name: mask[name] for name in fields} for mask in answer["masks"]]})

    def _outcome(self, one: Looked | EverymaskError) -> dict[str, Any]:
        if isinstance(one, Looked):
            return {"image": detail(one)}
        if isinstance(one, CorrectionConflictError):
            now = self.collection.look(one.image_id)
            return {"error": str(one), "conflict": True, "image": detail(now)}
        if isinstance(one, LabelledAnewError):
            return {"error": str(one), "image": detail(self.collection.look(one.image_id))}
        return {"error": str(one)}


def build_app(page: Page, names: Iterable[str] = (), key: str | None = None) -> Guard:
    """The guarded application.

    Args:
        names: host names of the page, besides this machine's.
        key: opens the page; None if only this machine reaches it.
    """
    reads = {
        "/api/store": page.store,
        "/api/images": page.images,
        "/api/classes": page.classes,
        "/api/image": page.image,
        "/thumbnail": page.thumbnail,
        "/picture": page.picture,
    }
    writes = {"/api/steps": page.steps, "/api/undo": page.undo, "/api/click": page.click}
    routes = [Route(path, _reading(handler), methods=["GET"]) for path, handler in reads.items()]
    routes += [Route(path, _writing(handler), methods=["POST"]) for path, handler in writes.items()]
    routes += [Route(path, _file(file), methods=["GET"]) for path, file in _files().items()]
    return Guard(Starlette(routes=routes), names, key)


def _reading(handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """A handler that Starlette runs in a thread, as it does plain functions."""

    def answer(request: Request) -> Response:
        return _answered(lambda: handler(request))

    return answer


def _writing(handler: Callable[[Request, bytes], Response]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(_answered, lambda: handler(request, body))

    return answer


def _answered(handle: Callable[[], Response]) -> Response:
    """A handler's answer, or its refusal."""
    try:
        return handle()
    except (UnknownImageError, PictureError) as error:
        return _refused(404, str(error))
    except ServiceProblem as problem:
        return _refused(502, str(problem))
    except OutputError as error:
        return _refused(507, str(error))
    except EverymaskError as error:
        return _refused(422, str(error))


def _files() -> dict[str, Path]:
    """Every served file by address; no address becomes a path."""
    found = {f"/static/{file.name}": file for file in sorted(_STATIC.iterdir()) if file.suffix in _TYPES}
    found |= {f"/static/{name}": _SHARED / name for name in _SHARED_SCRIPTS}
    return {"/": _STATIC / "index.html", **found}


def _file(file: Path) -> Callable[[Request], Response]:
    content, kind = file.read_bytes(), _TYPES[file.suffix]

    def answer(request: Request) -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return answer


def _picture(data: bytes, named_by_content: bool) -> Response:
    headers = _FOR_EVER if named_by_content else {"Cache-Control": "private, no-cache"}
    return Response(data, media_type="image/jpeg", headers=headers)


def _json(content: Any) -> Response:
    return Response(json.dumps(content, allow_nan=False), media_type="application/json")


def _refused(status: int, message: str) -> Response:
    return Response(json.dumps({"error": message}), status, media_type="application/json")
