"""Reads JSON that may hold anything: values are asked for by name and kind, ``ValueError`` names the one amiss."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAX_BYTES = 1 << 20  # a manifest has about 4 KB


def read(path: Path) -> "Fields":
    """The object in a JSON file. Raises ``OSError`` or ``ValueError``, never anything else."""
    if not path.is_file():  # a pipe would keep us waiting
        raise FileNotFoundError(f"{path.name} is missing")
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES} bytes")
    try:
        return Fields(json.loads(content), "the manifest")
    except RecursionError:
        raise ValueError("nested too deeply") from None


class Fields:
    """One JSON object; ``where`` is what messages call it."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} is not an object")
        self._values: dict[str, Any] = value
        self._where = where

    def _get(self, name: str, *kinds: type) -> Any:
        value = self._values.get(name)
        # JSON's true is an int to Python, and nothing here is a flag.
        if not isinstance(value, kinds) or isinstance(value, bool):
            found = "missing" if value is None else f"of type {type(value).__name__}"
            raise ValueError(f"{name!r} in {self._where} is {found}, not {kinds[0].__name__}")
        return value

    def has(self, name: str) -> bool:
        """Whether there is anything of that name; null is nothing."""
        return self._values.get(name) is not None

    def text(self, name: str) -> str:
        """A string, not empty."""
        text: str = self._get(name, str)
        if not text:
            raise ValueError(f"{name!r} in {self._where} is empty")
        return text

    def integer(self, name: str) -> int:
        """An integer, not negative."""
        integer: int = self._get(name, int)
        if integer < 0:
            raise ValueError(f"{name!r} in {self._where} is negative")
        return integer

    def number(self, name: str) -> float:
        """A finite number."""
        return _finite(self._get(name, float, int), f"{name!r} in {self._where}")

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """A list of ``count`` finite numbers."""
        return _numbers(self._get(name, list), count, f"{name!r} in {self._where}")

    def rows(self, name: str, columns: int) -> tuple[tuple[float, ...], ...]:
        """A list of lists of ``columns`` finite numbers."""
        return tuple(_numbers(row, columns, f"{name!r} in {self._where}") for row in self._get(name, list))

    def object(self, name: str) -> "Fields":
        """An object within this one."""
        return Fields(self._get(name, dict), name)

    def objects(self, name: str) -> Iterator["Fields"]:
        """A list of objects."""
        for at, value in enumerate(self._get(name, list)):
            yield Fields(value, f"{name}[{at}]")

    def words(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self._get(name, list)
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"{name!r} in {self._where} holds something else than strings")
        return tuple(values)

    def texts(self, name: str) -> dict[str, str]:
        """An object whose values are strings, none empty."""
        within = self.object(name)
        return {key: within.text(key) for key in self._values[name]}


def _numbers(value: object, count: int, where: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{where} is not a list of {count} numbers")
    return tuple(_finite(item, where) for item in value)


def _finite(value: object, where: str) -> float:
    # An integer of 400 digits is JSON too, and float() refuses it with an OverflowError.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ValueError(f"{where} holds {str(value)[:40]}, which is not a finite number")
    return float(value)
