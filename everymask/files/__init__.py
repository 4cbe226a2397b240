"""Files and object stores: addresses, durable writing, atomic replacement."""
