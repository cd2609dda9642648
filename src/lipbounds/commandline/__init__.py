"""The command `lipbounds`: bounds of a network in a file."""
