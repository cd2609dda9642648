"""Seeded campaigns of every method against oracles that share no code with the package."""
