"""Images that lie inside something: one module for each kind of container, one registry."""
