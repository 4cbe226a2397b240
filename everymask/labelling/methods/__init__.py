"""Ways to label an image: a row in `table.py` and a module each."""
