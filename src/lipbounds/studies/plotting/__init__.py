"""All figures, in one style: tidy table in, matplotlib figure out.

FIGURES holds them all; each draws the rows of its test. The exact constant is a black line; the
panels' columns are the norms. Titles are computed from the table, so that no figure claims what its
data do not show.
"""

from . import analytic, comparison, mnist, random
from .style import FIGURES, MARKS, NORMS, save

__all__ = ["FIGURES", "MARKS", "NORMS", "analytic", "comparison", "mnist", "random", "save"]
