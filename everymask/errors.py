"""Everything everymask raises on purpose. Each message names the input, the problem and the remedy.

- EverymaskError
  - InputError: an image or a file given by the user cannot be used
    - ImageTooLargeError: refused before decoding
  - ConfigurationError: options that contradict each other or the data; the run cannot start
    - CheckpointError: weights missing, corrupt, of another architecture or with another sha256
    - HeadMismatchError: a class head made for another backbone
  - OutputError: results cannot be written; what was finished is kept
  - ModelOutputError: the model answered with NaN or infinity
  - UnforeseenError: labelling one image failed in a way that nobody thought of
"""

from __future__ import annotations

import re

from everymask.redaction import redact

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class EverymaskError(Exception):
    """Base of every error that a user can cause and fix.

    No message repeats an address's secrets, and each is one line whatever names it holds: a stranger's file name must
    not add a line to a log or steer a terminal.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_CONTROL.sub(lambda odd: odd[0].encode("unicode_escape").decode(), redact(message)))


class InputError(EverymaskError):
    """One image or file cannot be used; others may be fine."""


class ImageTooLargeError(InputError):
    """The image has more bytes or pixels than the limit allows; nothing was decoded."""


class ConfigurationError(EverymaskError):
    """Options contradict each other or the data; nothing was started."""


class CheckpointError(ConfigurationError):
    """Weights are missing, corrupt, of another architecture, or fail their sha256."""


class HeadMismatchError(ConfigurationError):
    """A class head was trained on another backbone or other weights than the running ones."""


class OutputError(EverymaskError):
    """Results cannot be written to their place; everything finished before is kept."""


class ModelOutputError(EverymaskError):
    """The model produced NaN or infinity for one image."""


class UnforeseenError(EverymaskError):
    """Labelling one image failed in an unforeseen way; the log has the traceback, other images are fine."""


LabelFailure = InputError | ModelOutputError | UnforeseenError
"""Errors of one image while others are fine.

Functions for one image raise it; functions for many return it in that image's place. A job writes it as the image's
row; a service turns it into a status code.
"""
