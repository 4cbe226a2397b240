"""everymask: masks for image collections with the Segment Anything Model, without annotators."""

__version__ = "0.1.0"
