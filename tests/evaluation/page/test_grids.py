"""Tables of a page: what says nothing is left out, figures are told from words."""

from squeezeedge.evaluation.page.grids import grid
from squeezeedge.evaluation.tables import Table


def test_a_table() -> None:
    rows = [["top-1 %", "", "99.00", "-"], ["interval", "1.5..2", "-0.5..+0.5", ""], ["nothing", "-", "", "-"]]
    found = grid(Table("", ("", "fp32", "cpu", "cuda"), [*rows, ["exact", "", "yes", ""]]))
    assert found.columns == ("", "fp32", "cpu") and found.figures == (False, True, True)
    assert found.rows == (("top-1 %", "-", "99.00"), ("interval", "1.5..2", "-0.5..+0.5"), ("exact", "-", "yes"))


def test_words() -> None:
    found = grid(Table("", ("7", "bound", "bytes"), [["1", "dram", "1,234"], ["2", "-", "-"]]))
    assert found.figures == (False, False, True) and found.rows[0] == ("1", "dram", "1,234")
