"""How `nano` is trained: ground truth, augmentation, borders and groups, token cache, decoder."""
