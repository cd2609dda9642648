"""Errors a user can cause; every message names what was wrong, where, and what to do."""


class LipboundsError(ValueError):
    """Base of all errors raised for a user's input."""


class UnsupportedError(LipboundsError):
    """A layer, norm, or combination of bound and norm that is not defined or not supported."""


class ShapeError(LipboundsError):
    """A layer that does not take what the layers before it, or the input, give it."""
