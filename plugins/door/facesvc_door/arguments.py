"""What somebody wrote behind a command, read strictly: it ends up in the audit log."""

from collections.abc import Mapping

from facesvc.errors import InputError

MAX_REASON = 200
_ID_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@+-")


class Arguments:
    """The arguments of one command; ``end`` refuses those that nobody asked for."""

    def __init__(self, command: str, values: Mapping[str, str]) -> None:
        self._command = command
        self._values = dict(values)

    def text(self, name: str, *, needed: bool = True) -> str:
        """A line of words."""
        value = self._taken(name, needed=needed)
        if len(value) > MAX_REASON or not value.isprintable():
            raise InputError(f"{name} is one line of at most {MAX_REASON} characters", field=name)
        return value

    def id(self, name: str, *, needed: bool = True) -> str:
        """An id of somebody or something; never a name, as it is kept for ever."""
        value = self._taken(name, needed=needed)
        if len(value) > 100 or not _ID_SIGNS.issuperset(value):
            raise InputError(f"{name} is an id: letters, digits and . _ : @ + -, at most 100", field=name)
        return value

    def number(self, name: str, default: int, most: int) -> int:
        """1 to ``most``."""
        value = self._taken(name, needed=False)
        if not value:
            return default
        if not (value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= most):
            raise InputError(f"{name} is a number from 1 to {most}", field=name)
        return int(value)

    def end(self) -> None:
        """Whatever is left was not meant for this command. Its names are not repeated: anybody may have sent them."""
        if self._values:
            raise InputError(f"{self._command} takes no such argument; facesvc plugins list shows its commands")

    def _taken(self, name: str, *, needed: bool) -> str:
        value = self._values.pop(name, "").strip()
        if needed and not value:
            raise InputError(f"{self._command} needs {name}=…", field=name)
        return value
