"""Review: which images people should check first, and the corrections that come back."""
