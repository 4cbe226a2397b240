"""How `nano` is trained: ground truth, augmentation, distillation of the encoder, token cache, prompt decoder."""
