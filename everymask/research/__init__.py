"""How models are made and judged: installed for commands, but imported by no other room."""
