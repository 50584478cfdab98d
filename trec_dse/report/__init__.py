"""Results of a study for people: a table, and one self-contained page that opens from disk."""

from trec_dse.report.page import write_html
from trec_dse.report.table import table

__all__ = ["table", "write_html"]
