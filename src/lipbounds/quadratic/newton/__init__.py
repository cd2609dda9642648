"""Newton's method on the form Q, dense, for networks of moderate size."""
