"""Data sets: files of edits to be judged, and files of the verdicts on them."""

from editr1.datasets.edits import BadRow, EditRow, count_rows, edit_row, read_edits, read_principles
from editr1.datasets.verdicts import VerdictFile

__all__ = ["BadRow", "EditRow", "VerdictFile", "count_rows", "edit_row", "read_edits", "read_principles"]
