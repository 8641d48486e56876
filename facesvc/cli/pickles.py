"""Pickles, read without running them.

A pickle is a program: ``pickle.load`` imports and calls whatever it names. Here its opcodes, which ``pickletools``
takes apart, are interpreted one by one, and make plain values and arrays, nothing else. What a pickle wants to call is
refused by name, but for what numpy writes for its arrays (``pickled_arrays``). Bytes, opcodes and nesting are bounded.
"""

import pickletools
from collections.abc import Callable, Iterator
from typing import Any

from facesvc.cli.pickled_arrays import ADVICE, Array, Call, carried_out, damaged, fill, named, shown, size_of
from facesvc.errors import InputError

__all__ = ["MAX_NUMBERS", "MAX_STEPS", "Array", "load"]

MAX_STEPS = 8_000_000  # opcodes, numbers aside; an array of numpy's takes about twenty
MAX_NUMBERS = 16_000_000  # opcodes that are a number, as in lists of them
_MAX_NESTING = 64
# An array's bytes are read once where they are bytes, and once more where an old protocol has them as text.
_MAX_READ = 2  # times the bytes of the file, by all calls together
_MAX_DOCUMENTS = 2  # people write names and encodings to one file, one after the other
# Names are numbers now and then. Larger ones could be chosen so that a dict takes for ever with them.
_MAX_KEY = 2**31

_NUMBERS = frozenset({"BINFLOAT", "FLOAT", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"})
_VALUES = frozenset(
    {
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)


def load(data: bytes) -> Any:
    """The value in a pickle, of None, bool, int, float, str, bytes, list, tuple, dict and ``Array``.

    Of two pickles, one after the other, it is the tuple of both values. Raises ``InputError``: damaged, too large, or
    it wants something done.
    """
    documents: list[Any] = []
    opcodes = _Opcodes(data)
    while not opcodes.at_end or not documents:
        if len(documents) == _MAX_DOCUMENTS:
            raise InputError(f"this file holds more than {_MAX_DOCUMENTS} pickles")
        documents.append(_value(opcodes))
    return documents[0] if len(documents) == 1 else tuple(documents)


class _Opcodes:
    """The opcodes of a file, pickle by pickle, as many as are allowed."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data
        self._start = 0
        self._steps, self._numbers = MAX_STEPS, MAX_NUMBERS

    @property
    def at_end(self) -> bool:
        return self._start >= len(self._data)

    def of_next_pickle(self) -> Iterator[tuple[str, Any]]:
        """Name and argument of each opcode up to STOP. Raises ``InputError``."""
        opcodes = pickletools.genops(self._data[self._start :])
        place: int | None = 0
        while True:
            try:
                opcode, argument, place = next(opcodes)
            except StopIteration:
                self._start += (place or 0) + 1
                return
            except (ValueError, Warning) as error:  # a strange escape is a warning, where those are errors
                raise damaged("it ends too early, or holds what is no pickle") from error
            if opcode.name in _NUMBERS:
                self._numbers -= 1
            else:
                self._steps -= 1
            if self._steps < 0 or self._numbers < 0:
                raise InputError(
                    f"this pickle is too large (over {MAX_STEPS:,} values or {MAX_NUMBERS:,} single numbers): save the"
                    " encodings as .npz (numpy.savez) and import that"
                )
            yield opcode.name, argument


def _value(opcodes: _Opcodes) -> Any:
    """The value of the next pickle."""
    machine = _Machine(_MAX_READ * opcodes.size)
    for name, argument in opcodes.of_next_pickle():
        if name in _NUMBERS or name in _VALUES:
            machine.push(argument)
            continue
        handle = _HANDLERS.get(name)
        if handle is None:
            wanted = f" ({shown(argument)})" if isinstance(argument, str) else ""
            raise InputError(f"this pickle wants to make objects with the opcode {name}{wanted}; {ADVICE}")
        handle(machine, argument)
    return machine.pop()


class _Machine:
    """The stack and the memo of one pickle; see ``pickletools`` for what each opcode does.

    What is called may read ``room`` bytes in all.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise damaged("a value is missing")
        return self._stack.pop()

    def _top(self) -> Any:
        value = self.pop()
        self.push(value)
        return value

    def mark(self) -> None:
        if len(self._marks) == _MAX_NESTING:
            raise damaged(f"it is nested more than {_MAX_NESTING} levels deep")
        self._marks.append(len(self._stack))

    def pop_mark(self) -> list[Any]:
        if not self._marks:
            raise damaged("a mark is missing")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def drop(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self.pop()

    def put(self, place: int) -> None:
        self._memo[place] = self._top()

    def memoize(self) -> None:
        self.put(len(self._memo))

    def get(self, place: int) -> None:
        if place not in self._memo:
            raise damaged("it refers to a value that it does not have")
        self.push(self._memo[place])

    def make_list(self) -> None:
        self.push(self.pop_mark())

    def make_tuple(self) -> None:
        self.push(tuple(self.pop_mark()))

    def make_dict(self) -> None:
        entries = self.pop_mark()
        self.push({})
        self._enter(entries)

    def append(self) -> None:
        self._extend([self.pop()])

    def extend(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise damaged("it appends to what is no list")
        target.extend(values)

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self._enter([key, value])

    def set_items(self) -> None:
        self._enter(self.pop_mark())

    def _enter(self, entries: list[Any]) -> None:
        """Put keys and values, by turns, into the dict on top."""
        target = self._top()
        if not isinstance(target, dict) or len(entries) % 2:
            raise damaged("it puts an entry into what is no dict")
        for key, value in zip(entries[::2], entries[1::2], strict=True):
            if not (isinstance(key, str) or (isinstance(key, int) and abs(key) < _MAX_KEY)):
                raise InputError("this pickle has a dict whose keys are no names")
            target[key] = value

    def name(self, written: str) -> None:
        module, _, name = written.partition(" ")
        self.push(named(module, name))

    def name_of_two(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise damaged("it names something by no name")
        self.push(named(module, name))

    def reduce(self) -> None:
        arguments, call = self.pop(), self.pop()
        if not isinstance(call, Call) or not isinstance(arguments, tuple):
            raise damaged("it calls what cannot be called")
        self.push(self._charged(carried_out(call, arguments)))

    def build(self) -> None:
        state, target = self.pop(), self._top()
        fill(target, state)
        self._charged(target)

    def _charged(self, made: object) -> object:
        self._room -= size_of(made)
        if self._room < 0:
            raise damaged("the same bytes make one value after another")
        return made


_Handler = Callable[[_Machine, Any], None]


def _plain(method: Callable[[_Machine], object]) -> _Handler:
    """For an opcode without an argument."""

    def handle(machine: _Machine, _: object) -> None:
        method(machine)

    return handle


def _fresh(make: Callable[[], object]) -> _Handler:
    """For an opcode that pushes a value."""
    return lambda machine, _: machine.push(make())


def _tuple_of(count: int) -> _Handler:
    return lambda machine, _: machine.push(tuple([machine.pop() for _ in range(count)][::-1]))


_HANDLERS: dict[str, _Handler] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "MEMOIZE": _plain(_Machine.memoize),
    "MARK": _plain(_Machine.mark),
    "POP": _plain(_Machine.drop),
    "POP_MARK": _plain(_Machine.pop_mark),
    "NONE": _fresh(lambda: None),
    "NEWTRUE": _fresh(lambda: True),
    "NEWFALSE": _fresh(lambda: False),
    "EMPTY_TUPLE": _fresh(tuple),
    "EMPTY_LIST": _fresh(list),
    "EMPTY_DICT": _fresh(dict),
    "TUPLE": _plain(_Machine.make_tuple),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": _plain(_Machine.make_list),
    "APPEND": _plain(_Machine.append),
    "APPENDS": _plain(_Machine.extend),
    "DICT": _plain(_Machine.make_dict),
    "SETITEM": _plain(_Machine.set_item),
    "SETITEMS": _plain(_Machine.set_items),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _plain(_Machine.name_of_two),
    "REDUCE": _plain(_Machine.reduce),
    "BUILD": _plain(_Machine.build),
}
