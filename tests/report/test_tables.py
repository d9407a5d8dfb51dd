import io

import pytest
from rich.console import Console

from avexp.report.tables import KpiRow, Table, decimals_for, kpi_table, number, show, to_text

ROWS = [
    KpiRow(task="objects", title="AP50", headline=True, values={"constant": 0.021, "fp32": 0.7121, "int8": 0.7119}),
    KpiRow(task="path", title="error", unit="m", higher_is_better=False, values={"constant": 12.3, "int8": 0.41}),
]
EXPECTED = """\
KPIs
+---------+-------+----------+--------+--------+------+
| task    | KPI   | constant |   fp32 |   int8 | unit |
+---------+-------+----------+--------+--------+------+
| objects | AP50  |    0.021 | 0.712* | 0.712* |      |
+---------+-------+----------+--------+--------+------+
| path    | error |    12.30 |      - |  0.41* | m    |
+---------+-------+----------+--------+--------+------+
"""


def test_plain_text_aligns_numbers_and_marks_the_best():
    assert to_text(kpi_table(ROWS, ["constant", "fp32", "int8"])) == EXPECTED


def test_without_a_terminal_there_is_no_ansi_and_with_one_there_is():
    plain, coloured = io.StringIO(), io.StringIO()
    table = kpi_table(ROWS, ["constant", "fp32", "int8"])
    show(table, plain)
    assert plain.getvalue() == EXPECTED
    show(table, console=Console(file=coloured, force_terminal=True, width=100))
    assert "\x1b[" in coloured.getvalue()


def test_square_brackets_are_text():
    assert "[red]x[/red]" in to_text(Table(["name"], [["[red]x[/red]"]]))


@pytest.mark.parametrize(
    ("values", "unit", "decimals", "shown"),
    [
        ([0.5, None], "", 3, "0.500"),
        ([12.3, 0.41], "m", 2, "12.30"),
        ([41.2, 18.2], "ms", 1, "41.2"),
        ([1234.5], "s", 0, "1,234"),
        ([1.2e-5], "1/m", -1, "1.2e-05"),
        ([0.0021], "1/m", 4, "0.0021"),
    ],
)
def test_one_rows_values_share_their_decimals(values, unit, decimals, shown):
    assert decimals_for(values, unit) == decimals
    assert number(values[0], decimals) == shown


def test_nothing_known_is_a_dash_and_equal_values_are_not_marked():
    assert number(float("nan")) == "-"
    same = kpi_table([KpiRow(task="a", title="b", values={"x": 0.5, "y": 0.5})], ["x", "y"])
    assert same.best == frozenset()
