"""What a mask is described by beyond the backbone's own token: encoders that look at a crop of the picture."""
