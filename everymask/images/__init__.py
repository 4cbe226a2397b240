"""Images: decoding, limits, and reading from where they lie."""
