"""The networks of the numerical tests."""
