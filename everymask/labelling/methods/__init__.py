"""Methods of labelling: a row in `table.py` and a module each."""
