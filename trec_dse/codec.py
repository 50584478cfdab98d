"""JSON and TOML text in and out of our frozen dataclasses, strictly: an unknown or missing key is an error."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any, TypeVar

import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError

T = TypeVar("T")

Scalar = int | float | str | bool

_converter = cattrs.Converter(forbid_extra_keys=True)


def _exactly(expected: type) -> Callable[[object, Any], Any]:
    """A hook that takes only `expected`; without it 3.7 would silently become the integer 3."""

    def hook(value: object, _: Any) -> Any:
        is_bool_for_number = isinstance(value, bool) and expected is not bool
        if expected is float and isinstance(value, int) and not is_bool_for_number:
            return float(value)
        if not isinstance(value, expected) or is_bool_for_number:
            raise TypeError(f"expected {expected.__name__}, found {value!r}")
        return value

    return hook


def _scalar(value: object, _: Any) -> Any:
    if not isinstance(value, int | float | str | bool):
        raise TypeError(f"expected a number, a string or a truth value, found {value!r}")
    return value


def _scalar_or_none(value: object, kind: Any) -> Any:
    return None if value is None else _scalar(value, kind)


for _kind in (int, float, str, bool):
    _converter.register_structure_hook(_kind, _exactly(_kind))
_converter.register_structure_hook_func(lambda kind: kind == Scalar, _scalar)
_converter.register_structure_hook_func(lambda kind: kind == Scalar | None, _scalar_or_none)


def unstructure(value: object) -> Any:
    """`value` as plain containers, ready for `json.dumps`."""
    return _converter.unstructure(value)


def to_json(value: object) -> str:
    """Indented JSON text of a dataclass, with a final newline."""
    return json.dumps(unstructure(value), indent=2) + "\n"


def structure(data: object, cls: type[T], where: str, error: type[Exception]) -> T:
    """A `cls` from plain containers. `where` names the source in the message of `error`."""
    try:
        return _converter.structure(data, cls)
    except ClassValidationError as problem:
        details = "; ".join(_plain(text) for text in cattrs.transform_error(problem, format_exception=_explain))
        raise error(f"{where}: {details}") from problem
    except (TypeError, ValueError, KeyError, AttributeError) as problem:
        raise error(f"{where}: {problem}") from problem


def from_json(text: str, cls: type[T], where: str, error: type[Exception]) -> T:
    """A `cls` from JSON text; broken JSON and wrong fields both raise `error` with the place."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as problem:
        raise error(f"{where}: not valid JSON: {problem}") from problem
    return structure(data, cls, where, error)


def _explain(problem: BaseException, kind: type | None) -> str:
    if isinstance(problem, ForbiddenExtraKeysError):
        known = ", ".join(field.name for field in dataclasses.fields(problem.cl))
        return f"unknown key {', '.join(sorted(problem.extra_fields))}; exactly these are known: {known}"
    if isinstance(problem, KeyError):
        return f"required key {problem.args[0]!r} is missing"
    return str(problem)


def _plain(text: str) -> str:
    message, _, place = text.rpartition(" @ $")
    return f"{place.lstrip('.')}: {message}" if place else message
