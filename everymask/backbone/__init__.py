"""Promptable backbones behind one protocol: a folder per family, a row per model in `models.py`."""
