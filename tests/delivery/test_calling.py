"""What an error is called, whatever it is."""

import pytest

from facesvc.delivery.calling import in_words
from facesvc.errors import InputError


class WordlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("no"), "RuntimeError: no"),
        (InputError("say who"), "say who"),
        (WordlessError(), "WordlessError"),
        (ValueError("nul \0, half a pair \udc80"), "ValueError: nul ?, half a pair ?"),
        (InputError("x" * 10_000), "x" * 500),
    ],
)
def test_an_error_in_words_that_every_database_takes(error: Exception, words: str) -> None:
    assert in_words(error) == words
