"""Lists an input and reads every image: `python -m tests.images.sources.places INPUT`, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import sys

from data_jobs.labelling.inputs import list_images
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.images.files import read_bytes


def main(location: str) -> None:
    """Print {image id: sha256 of the bytes, or the error}."""
    policy = AddressPolicy.for_input(location)
    found = {
        image.image_id: image.error
        or hashlib.sha256(read_bytes(image.uri, ImageLimits(), policy, image.member)).hexdigest()
        for image in list_images(location)
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
