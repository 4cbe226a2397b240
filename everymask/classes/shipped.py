"""Class heads that come with the library."""

from __future__ import annotations

from pathlib import Path

from everymask.files.storage import canonical_uri

SHIPPED_HEADS = Path(__file__).resolve().parent / "heads"


def is_shipped_head(head: str | Path) -> bool:
    """Whether this names a shipped head, such as `everyday`. A file of that name takes precedence."""
    return str(head) in shipped_heads() and not Path(head).exists()


def shipped_heads() -> list[str]:
    return sorted(path.stem for path in SHIPPED_HEADS.glob("*.safetensors"))


def head_file(head: str | Path) -> Path:
    """The file of a class head, given by its path or by the name of a shipped one."""
    return SHIPPED_HEADS / f"{head}.safetensors" if is_shipped_head(head) else Path(head)


def settled_head(head: str) -> str:
    """A name of the same head for any working directory: a shipped head's name, an absolute path or an address."""
    return head if is_shipped_head(head) else canonical_uri(head)
