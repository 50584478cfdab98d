"""Operators: one folder each with its Python meaning, its C kernel and its test cases."""

import dataclasses

from trec_dse import plugins
from trec_dse.errors import StudyError
from trec_dse.graph import Op


def op_class(kind: str) -> type[Op]:
    """The dataclass of the operator in folder `kind`; StudyError, for it comes from a file, if there is none."""
    module = plugins.load("ops", kind, StudyError)
    for value in vars(module).values():
        if dataclasses.is_dataclass(value) and getattr(value, "kind", None) == kind:
            found: type[Op] = value  # type: ignore[assignment]
            return found
    raise StudyError(f"ops/{kind} defines no operator of that kind")
