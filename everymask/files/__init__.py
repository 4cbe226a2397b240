"""Files and object stores: addresses, durable writing, whole-or-not-at-all replacement."""
