"""What the bounds are held against: exact enumeration and sampling."""
