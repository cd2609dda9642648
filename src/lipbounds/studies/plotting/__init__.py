"""All figures, in one style: tidy table in, matplotlib figure out.

A figure's name begins with the test whose table it draws; FIGURES holds them all. The exact
constant is a black line; the panels' columns are the norms. Titles are computed from the table, so
that no figure claims what its data do not show.
"""

from .analytic import test1_bounds, test1_writings, test2_bounds
from .comparison import test5_growth, test5_pareto
from .mnist import test4_bounds, test4_treatments
from .random import test3_depth, test3_relaxation, test3_spread, test3_width
from .style import MARKS, NORMS, save

FIGURES = {
    figure.__name__: figure
    for figure in (
        test1_bounds,
        test1_writings,
        test2_bounds,
        test3_depth,
        test3_width,
        test3_spread,
        test3_relaxation,
        test4_bounds,
        test4_treatments,
        test5_pareto,
        test5_growth,
    )
}

__all__ = ["FIGURES", "MARKS", "NORMS", "save", *FIGURES]
