"""The measurements behind `everymask evaluate`, one module a kind."""
