"""How much memory Ray's object store may take where a command of ours starts Ray. Imports no Ray."""

MAX_OBJECT_STORE_BYTES = 2 * 2**30
"""Its own choice is 30 % of the machine."""
