"""Encoders that look at a crop of the picture and describe masks beyond the backbone's own token."""
