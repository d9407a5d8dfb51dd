"""Tables of KPIs and facts: one form for the terminal, for plain text and for the report."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

MISSING = "-"
BEST_SIGN = "*"


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows and columns.

    Attributes:
        columns: their heads.
        rows: cells as text, as many as columns.
        title: above it.
        numbers: columns that hold numbers, set flush right.
        best: cells (row, column) that are marked.
        strong: rows that are emphasised.
        rules: rows after which a line is drawn.
        note: below it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    numbers: frozenset[int] = frozenset()
    best: frozenset[tuple[int, int]] = frozenset()
    strong: frozenset[int] = frozenset()
    rules: frozenset[int] = frozenset()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiRow:
    """One KPI over the columns of a table.

    Attributes:
        task: rows of one task stand together.
        title: of the KPI.
        unit: "" for shares.
        higher_is_better: which end is marked as best; None marks none.
        headline: emphasised.
        values: by column; a missing or NaN value is shown as "-".
    """

    task: str
    title: str
    values: Mapping[str, float | None] = field(default_factory=dict)
    unit: str = ""
    higher_is_better: bool | None = True
    headline: bool = False


def number(value: float | None, decimals: int = 3) -> str:
    """A value with so many decimals; "-" for none or NaN; negative decimals ask for scientific notation."""
    if value is None or value != value:
        return MISSING
    return f"{value:.1e}" if decimals < 0 else f"{value:,.{decimals}f}"


def decimals_for(values: Sequence[float | None], unit: str = "") -> int:
    """Decimals that one row's values share, so that its digits align: shares 3, others as the smallest value needs."""
    sizes = [abs(value) for value in values if value is not None and value == value and value != 0]
    least = min(sizes, default=1.0)
    if unit == "" and least <= 1:
        return 3
    for bound, decimals in ((100, 0), (10, 1), (0.1, 2), (0.01, 3), (0.001, 4)):
        if least >= bound:
            return decimals
    return -1


def kpi_table(rows: Sequence[KpiRow], columns: Sequence[str], title: str = "KPIs") -> Table:
    """Rows of KPIs against columns such as constant, checkpoint, fp32 plan, int8 plan; the best of each row is marked."""
    cells: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    for place, row in enumerate(rows):
        decimals = decimals_for([row.values.get(name) for name in columns], row.unit)
        shown = [number(row.values.get(name), decimals) for name in columns]
        first = place == 0 or rows[place - 1].task != row.task
        cells.append([row.task if first else "", row.title, *shown, row.unit])
        best |= {(place, index + 2) for index in _best(row, columns, decimals)}
    rules = {place for place in range(len(rows) - 1) if rows[place].task != rows[place + 1].task}
    return Table(
        ["task", "KPI", *columns, "unit"],
        cells,
        title,
        frozenset(range(2, len(columns) + 2)),
        frozenset(best),
        frozenset(place for place, row in enumerate(rows) if row.headline),
        frozenset(rules),
    )


def _best(row: KpiRow, columns: Sequence[str], decimals: int) -> list[int]:
    """Columns whose shown value equals the best shown value; none where all are equal."""
    values = {index: row.values.get(name) for index, name in enumerate(columns)}
    known = {index: value for index, value in values.items() if value is not None and value == value}
    if row.higher_is_better is None or not known:
        return []
    top = number((max if row.higher_is_better else min)(known.values()), decimals)
    winners = [index for index, value in known.items() if number(value, decimals) == top]
    return winners if len(winners) < len(known) else []


def to_rich(table: Table, plain: bool = False) -> RichTable:
    """The table for a rich console; ``plain`` marks by a sign instead of colour and uses ASCII lines."""
    head = "" if plain else "bold cyan"
    result = RichTable(
        caption=table.note or None,
        caption_justify="left",
        box=box.ASCII2 if plain else box.ROUNDED,
        header_style=head,
        caption_style="" if plain else "dim",
        border_style="" if plain else "dim",
    )
    for index, name in enumerate(table.columns):
        result.add_column(Text(name), justify="right" if index in table.numbers else "left", overflow="fold")
    for place, row in enumerate(table.rows):
        # plain columns keep room for the sign, so that digits stay aligned
        marks = {index for row_index, index in table.best if row_index == place}
        wide = {index for _row, index in table.best} if plain else set()
        cells = [_cell(cell, index in marks, index in wide, plain) for index, cell in enumerate(row)]
        style = "bold" if place in table.strong and not plain else ""
        result.add_row(*cells, style=style, end_section=place in table.rules)
    return result


def _cell(text: str, best: bool, wide: bool, plain: bool) -> Text:
    if plain:
        return Text(text + (BEST_SIGN if best else " " if wide else ""))
    return Text(text, style="green" if best else "")


def to_text(table: Table, width: int = 160) -> str:
    """The table without colours, for logs and files."""
    from io import StringIO

    stream = StringIO()
    console = Console(file=stream, width=width, color_system=None, force_terminal=False)
    if table.title:
        console.print(table.title, markup=False)
    console.print(to_rich(table, plain=True))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def show(table: Table, stream: IO[str] | None = None, console: Console | None = None) -> None:
    """Write a table: in colour on a terminal, else as plain text.

    Args:
        table: what to show.
        stream: where to; standard output if None.
        console: an open rich console, such as that of a progress bar, instead of a stream.
    """
    target: Any = console or Console(file=stream or sys.stdout)
    if target.is_terminal:
        # a title of the table's own would be broken to the table's width
        if table.title:
            target.print(Text(table.title, style="bold"))
        target.print(to_rich(table))
    else:
        target.file.write(to_text(table))
