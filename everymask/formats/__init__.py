"""A label store as other tools read it, one module a format. `registry.FORMATS` lists them all."""
