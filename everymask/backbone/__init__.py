"""Promptable backbones behind one protocol: a folder a family, a row a model in `models.py`."""
