"""Exports on a Ray cluster."""
