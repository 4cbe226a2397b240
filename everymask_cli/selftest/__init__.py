"""`everymask selftest`: this machine's masks beside those of the model's publisher, on the same weights."""
