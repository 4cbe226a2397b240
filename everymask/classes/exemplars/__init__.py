"""Pictures of the user's classes, made or found: U-SAM's only source of class knowledge (section 3.4)."""
