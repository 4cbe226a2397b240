"""Exports read by the tools they are for. What does not fit this environment runs in environments of its own."""
