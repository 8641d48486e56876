"""Text of somebody else's, in one short line."""

import re
import unicodedata
from html import unescape

_TAG = re.compile(r"<[^>]{0,500}>")
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINER = "\u200d"  # holds emoji together


def printable(text: str, limit: int) -> str:
    """One line without control characters or what turns its direction around, at most ``limit`` characters."""
    line = " ".join(text[: 4 * limit].split())
    kept = "".join(one for one in line if one == _JOINER or unicodedata.category(one) not in _UNPRINTABLE)
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def plain(html: str, limit: int) -> str:
    """What is to be read of a piece of HTML."""
    return printable(unescape(_TAG.sub(" ", html[: 8 * limit])), limit)


def words(name: str) -> str:
    """``DoNotDisturb`` as "Do not disturb": names of Graph that people read, known or not."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return spaced[:1].upper() + spaced[1:].lower()
