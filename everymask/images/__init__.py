"""Images: decoding, limits, and where an image may lie."""
