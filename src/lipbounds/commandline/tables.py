"""Outcomes as rows, for JSON, CSV, the terminal and the report."""

import csv
import io
import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .budget import Outcome

DIGITS = Context(prec=6, rounding=ROUND_CEILING), Context(prec=6, rounding=ROUND_FLOOR)


def rows_of(outcomes: Sequence[Outcome], lower: dict[float, float]) -> list[dict]:
    """Each outcome by names; ratio: to the lower bound in its norm."""
    rows = []
    for outcome in outcomes:
        task, found = outcome.task, outcome.found
        upper = None if found is None else found.upper
        ratio = upper / lower[task.norm] if upper is not None and lower[task.norm] > 0 else None
        rows.append(
            {
                "norm": f"{task.norm:g}",
                "method": task.name,
                "treatment": task.treatment,
                "upper": upper,
                "ratio": ratio,
                "seconds": None if found is None else found.seconds,
                "status": "left out" if found is None else str(found.status),
                "reason": outcome.reason,
            }
        )
    return rows


def named(lower: dict[float, float]) -> dict[str, float]:
    return {f"{norm:g}": value for norm, value in lower.items()}


def as_csv(rows: Sequence[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["norm"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def least_first(rows: Sequence[dict], norm: str) -> list[dict]:
    """Those of one norm, those without a value last."""
    own = [row for row in rows if row["norm"] == norm]
    return sorted(own, key=lambda row: math.inf if row["upper"] is None else row["upper"])


def printed(rows: Sequence[dict], lower: dict[str, float]) -> None:
    """A table for each norm."""
    console = Console()
    for norm, least in lower.items():
        table = Table("method", "treatment", "upper bound", "/ lower", "s", "status", box=None)
        for row in least_first(rows, norm):
            table.add_row(*map(escape, shown(row)))
        console.print(f"\nl{norm}: the constant is at least {below(least)}")
        console.print(table)


def shown(row: dict) -> tuple[str, ...]:
    """A row as it is read."""
    upper = "-" if row["upper"] is None else above(row["upper"])
    ratio, seconds = ("-" if row[x] is None else f"{row[x]:.3g}" for x in ("ratio", "seconds"))
    ended = row["reason"] or row["status"]
    return row["method"], row["treatment"], upper, ratio, seconds, ended


def above(value: float) -> str:
    """With six digits, still an upper bound."""
    return f"{float(DIGITS[0].plus(Decimal(value))):.6g}"


def below(value: float) -> str:
    """With six digits, still a lower bound."""
    return f"{float(DIGITS[1].plus(Decimal(value))):.6g}"
