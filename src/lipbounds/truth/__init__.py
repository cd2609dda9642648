"""What the bounds are held against: lower bounds, the relaxation optimum, the exact constant."""
