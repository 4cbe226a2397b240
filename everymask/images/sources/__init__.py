"""Images inside other files: one module for each kind of container, one registry."""
