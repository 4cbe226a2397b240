"""How `nano` is trained: ground truth, augmentation, distillation (encoder, semantic branch), token cache, decoder."""
