"""The tree of errors: what each says, and which is a kind of which."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from cloudwatch_handler import errors

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (errors.ServiceError, "PutLogEvents failed (Code: why)"),
        (errors.Throttled, "PutLogEvents was throttled (Code: why)"),
        (errors.Unavailable, "PutLogEvents did not get through (Code: why)"),
        (errors.NotTheService, "PutLogEvents was answered by something that is not CloudWatch Logs (Code: why)"),
        (errors.Denied, "PutLogEvents was not permitted (Code: why)"),
        (errors.NotFound, "PutLogEvents found no such log group or stream (Code: why)"),
        (errors.AlreadyExists, "PutLogEvents found it existing already (Code: why)"),
        (errors.InvalidRequest, "PutLogEvents was refused as invalid (Code: why)"),
        (errors.CompressionRefused, "PutLogEvents was refused with a compressed body (Code: why)"),
        (errors.WriterRace, "PutLogEvents came with a stale upload token (Code: why)"),
        (errors.AlreadyAccepted, "PutLogEvents brought a batch that is stored already (Code: why)"),
    ],
)
def test_an_error_says_what_happened_to_which_operation(kind: type[errors.ServiceError], text: str) -> None:
    """One clause in words, then the code and the detail for a search."""
    assert str(kind("PutLogEvents", "Code", "why")) == text
    assert str(kind("PutLogEvents", "Code")) == text.replace(": why", "")


def test_the_tree_is_the_drawn_one() -> None:
    """The picture in the module's docstring shows every class at its place."""
    drawn: list[tuple[str, str]] = []
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        if found := re.match(r"    ((?:[│├└]?[ ─]{3})*)(\w+)", line):
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn.append((found[2], path[depth - 1] if depth else "Exception"))
    assert sorted(drawn) == sorted((kind.__name__, kind.__bases__[0].__name__) for kind in CLASSES)


def test_nothing_may_be_stored_unless_said() -> None:
    """Nor is there a status where there was no answer."""
    error = errors.Unavailable("PutLogEvents", "Code")
    assert (error.may_be_stored, error.status) == (False, None)
    assert errors.Unavailable("PutLogEvents", "Code", may_be_stored=True).may_be_stored


@pytest.mark.parametrize("kind", [errors.WriterRace, errors.AlreadyAccepted])
def test_an_error_of_tokens_names_the_expected_one(kind: type[errors.WriterRace]) -> None:
    """Or None, on a stream that has none yet."""
    assert kind("PutLogEvents", "Code", expected_token="7").expected_token == "7"
    assert kind("PutLogEvents", "Code").expected_token is None


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_pickling(kind: type[errors.ServiceError]) -> None:
    """It may be raised in a process pool."""
    error = kind("PutLogEvents", "Code", "why")
    error.may_be_stored, error.status = True, 500
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.__dict__) == (kind, str(error), error.__dict__)
