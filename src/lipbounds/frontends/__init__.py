"""What makes a `Network` of a model that someone else defined."""
