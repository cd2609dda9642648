"""Networks: affine maps and stages in turn, what is made of them, and the map F_4 of K_4."""
