"""The measurements behind `evaluate.py`, one module a kind."""
