"""CLIP's tokenizer with a vocabulary of letters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def tiny_tokenizer(folder: Path) -> tuple[Any, int]:
    """The tokenizer, whose files are written to `folder`, and the number of its tokens."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    vocabulary, merges = folder / "letters.json", folder / "letters.txt"
    vocabulary.write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    merges.write_text("#version: 0.2\n")
    return CLIPTokenizer(str(vocabulary), str(merges), model_max_length=32), len(tokens)
