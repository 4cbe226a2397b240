"""What a person should look at first, and what comes back from them."""
