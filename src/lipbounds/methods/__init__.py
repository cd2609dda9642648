"""The upper bounds: a registry, what runs it, and one file per bound."""
