"""How models are made and judged: installed, since commands need it, but no other room imports it."""
