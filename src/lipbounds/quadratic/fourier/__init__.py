"""The form Q of convolutional networks on a torus, with the same multipliers at every pixel."""
