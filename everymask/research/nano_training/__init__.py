"""Training of `nano`: ground truth, augmentation, borders and groups, token cache, decoder."""
