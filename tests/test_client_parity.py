"""Whoever knows one client knows the other: the same methods with the same arguments."""

import inspect

import pytest

from facesvc.client import AsyncClient, Client


def public(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def arguments(method: object) -> list[tuple[str, object, object]]:
    """Name, kind and default of each; types differ where one reads an iterable and the other an asynchronous one."""
    assert callable(method)
    return [(one.name, one.kind, one.default) for one in inspect.signature(method).parameters.values()]


def test_the_methods_are_the_same() -> None:
    assert public(Client) == public(AsyncClient)


@pytest.mark.parametrize("name", ["__init__", *sorted(public(Client))])
def test_the_arguments_are_the_same(name: str) -> None:
    assert arguments(getattr(Client, name)) == arguments(getattr(AsyncClient, name))


@pytest.mark.parametrize("name", sorted(public(Client)))
def test_what_is_an_iterator_in_one_is_one_in_the_other(name: str) -> None:
    returned = inspect.signature(getattr(Client, name)).return_annotation
    expected = "AsyncGenerator" if "Generator" in str(returned) else str(returned)
    assert expected in str(inspect.signature(getattr(AsyncClient, name)).return_annotation)
