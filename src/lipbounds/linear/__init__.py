"""Linear maps, their rows, and their certified operator norms."""
