"""Descent on the form Q along the chain of links, for networks of any size."""
