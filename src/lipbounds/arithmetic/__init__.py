"""Floating point: outward rounding, and the matrix algebra that proofs rest on."""
