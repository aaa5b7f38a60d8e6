"""The checks of arguments: each error names the argument, the rule and the value."""

from __future__ import annotations

import enum
import math
import re
import threading
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from cloudwatch_handler import options
from tests.service_model import CURRENT, SHAPES

LONGEST = threading.TIMEOUT_MAX


class Mode(str, enum.Enum):
    """A string that an application may have made an enumeration of."""

    SPLIT = "split"


def something(*_: object) -> None:
    """What a dotted path may lead to."""


NO_FUNCTION = 7


@pytest.mark.parametrize(
    ("check", "arguments", "value", "result"),
    [
        (options.seconds, (), 0, 0.0),
        (options.seconds, (), 2.5, 2.5),
        (options.seconds, (), LONGEST, LONGEST),
        (options.integer, (1,), 1, 1),
        (options.integer, (1,), 10**30, 10**30),
        (options.integer, (1, 10), 10, 10),
        (options.flag, (), True, True),
        (options.flag, (), False, False),
        (options.text, (), "x", "x"),
        (options.text, (), None, None),
        (options.choice, ((None, 1, 7),), 7, 7),
        (options.choice, ((None, 1, 7),), None, None),
        (options.choice, (("split", "drop"),), "drop", "drop"),
        (options.mapping, (), None, None),
        (options.mapping, (), {"a": 1}, {"a": 1}),
        (options.mapping, (), MappingProxyType({"a": 1}), {"a": 1}),
        (options.tags, (), None, None),
        (options.tags, (), {}, {}),
        (options.tags, (), {"k": "", "Größe é_.:/=+-@ 1": "Wert"}, {"k": "", "Größe é_.:/=+-@ 1": "Wert"}),
        (options.tags, (), {"k" * 128: "v" * 256}, {"k" * 128: "v" * 256}),
        (options.entity, (), None, None),
        (options.entity, (), {}, {}),
        (
            options.entity,
            (),
            {"keyAttributes": {"Type": "Service", "Name": "n" * 512}, "attributes": {}},
            {"keyAttributes": {"Type": "Service", "Name": "n" * 512}, "attributes": {}},
        ),
        (options.function, (), None, None),
        (options.function, (), something, something),
        (options.function, (), "re.escape", re.escape),
        (options.function, (), "os.path.join", __import__("os").path.join),
        (options.function, (), f"{__name__}.something", something),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_right_value_is_returned(
    check: Callable[..., object], arguments: tuple[Any, ...], value: object, result: object
) -> None:
    """As the handler goes on with it."""
    checked = check("argument", value, *arguments)
    assert checked == result
    assert type(checked) is type(result)


TAGS_RULE = "must have keys of 1 to 128 and values of at most 256 characters"


@pytest.mark.parametrize(
    ("check", "arguments", "value", "error", "rule"),
    [
        (options.seconds, (), "2", TypeError, "must be a number of seconds, not '2'"),
        (options.seconds, (), None, TypeError, "must be a number of seconds, not None"),
        (options.seconds, (), True, TypeError, "must be a number of seconds, not True"),
        (options.seconds, (), -0.1, ValueError, f"must be at least 0 and at most {LONGEST:,.0f} seconds, not -0.1"),
        (options.seconds, (), math.nan, ValueError, f"must be at least 0 and at most {LONGEST:,.0f} seconds, not nan"),
        (options.seconds, (), math.inf, ValueError, f"must be at least 0 and at most {LONGEST:,.0f} seconds, not inf"),
        (
            options.seconds,
            (),
            1e12,
            ValueError,
            f"must be at least 0 and at most {LONGEST:,.0f} seconds, not 1000000000000.0",
        ),
        (options.seconds, (), 10**400, ValueError, "must be at least 0 and at most "),
        (options.integer, (1,), 0, ValueError, "must be at least 1, not 0"),
        (options.integer, (1_000, 2_000), 999, ValueError, "must be from 1,000 to 2,000, not 999"),
        (options.integer, (1_000, 2_000), 2_001, ValueError, "must be from 1,000 to 2,000, not 2001"),
        (options.integer, (1,), 1.0, TypeError, "must be a whole number, not 1.0"),
        (options.integer, (1,), True, TypeError, "must be a whole number, not True"),
        (options.integer, (1,), "1", TypeError, "must be a whole number, not '1'"),
        (options.flag, (), 1, TypeError, "must be True or False, not 1"),
        (options.flag, (), None, TypeError, "must be True or False, not None"),
        (options.text, (), "", ValueError, "must not be empty; None leaves it out"),
        (options.text, (), b"x", TypeError, "must be a string or None, not b'x'"),
        (options.choice, ((None, 1, 7),), 8, ValueError, "must be one of None, 1, 7, not 8"),
        (options.choice, ((None, 1, 7),), True, ValueError, "must be one of None, 1, 7, not True"),
        (options.choice, (("split", "drop"),), "Split", ValueError, "must be one of 'split', 'drop', not 'Split'"),
        (options.choice, (("split", "drop"),), [], ValueError, "must be one of 'split', 'drop', not []"),
        (options.mapping, (), [1], TypeError, "must be a mapping with strings as keys, or None, not [1]"),
        (options.mapping, (), {1: "a"}, TypeError, "must be a mapping with strings as keys, or None, not {1: 'a'}"),
        (options.tags, (), ["a"], TypeError, "must be a mapping with strings as keys, or None, not ['a']"),
        (options.tags, (), {"k": 1}, TypeError, "must have strings as values, not 1 for 'k'"),
        (options.tags, (), {"": "v"}, ValueError, f"{TAGS_RULE}, not ''"),
        (options.tags, (), {"k" * 129: "v"}, ValueError, f"{TAGS_RULE}, not '{'k' * 129}'"),
        (options.tags, (), {"k": "v" * 257}, ValueError, f"{TAGS_RULE}, not 'k'"),
        (options.tags, (), {"k!": ""}, ValueError, "must be of letters, digits, blanks and _.:/=+-@, not 'k!': ''"),
        (options.tags, (), {"k": "\t"}, ValueError, "must be of letters, digits, blanks and _.:/=+-@, not 'k': '\\t'"),
        (options.tags, (), {str(n): "" for n in range(51)}, ValueError, "must be at most 50 tags, not 51"),
        (options.function, (), 7, TypeError, "must be a callable, the dotted path of one, or None, not 7"),
        (options.function, (), "escape", ValueError, "must be the dotted path of a callable, not 'escape' ("),
        (options.function, (), "", ValueError, "must be the dotted path of a callable, not '' ("),
        (options.function, (), "re.nothing", ValueError, "must be the dotted path of a callable, not 're.nothing' ("),
        (options.function, (), "no_such.x", ValueError, "must be the dotted path of a callable, not 'no_such.x' ("),
        (options.function, (), ".re.escape", ValueError, "must be the dotted path of a callable, not '.re.escape' ("),
        (
            options.function,
            (),
            f"{__name__}.NO_FUNCTION",
            ValueError,
            f"must be the dotted path of a callable; '{__name__}.NO_FUNCTION' is 7",
        ),
    ],
)
def test_a_wrong_value_is_refused(
    check: Callable[..., object], arguments: tuple[Any, ...], value: object, error: type[Exception], rule: str
) -> None:
    """By the argument's name, its rule, and the value."""
    with pytest.raises(error) as caught:
        check("argument", value, *arguments)
    assert str(caught.value).startswith(f"argument {rule}")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("x", TypeError, " must be a mapping with strings as keys, or None, not 'x'"),
        ({"name": {}}, ValueError, " must have the members keyAttributes and attributes, not 'name'"),
        ({"attributes": ["x"]}, TypeError, ": attributes must be a mapping, not ['x']"),
        ({"keyAttributes": {"Type": "Service"}}, ValueError, ": keyAttributes must have 2 to 4 entries, not 1"),
        ({"keyAttributes": dict.fromkeys("abcde", "x")}, ValueError, ": keyAttributes must have 2 to 4 entries, not 5"),
        (
            {"attributes": dict.fromkeys("abcdefghijk", "x")},
            ValueError,
            ": attributes must have 0 to 10 entries, not 11",
        ),
        ({"attributes": {"a": 1}}, TypeError, ": attributes must have strings as keys and values, not 'a': 1"),
        ({"attributes": {1: "x"}}, TypeError, ": attributes must have strings as keys and values, not 1: 'x'"),
        (
            {"keyAttributes": {"Type": "Service", "k" * 33: "x"}},
            ValueError,
            f": keyAttributes must have keys of 1 to 32 and values of 1 to 512 characters, not '{'k' * 33}': 'x'",
        ),
        (
            {"attributes": {"": "x"}},
            ValueError,
            ": attributes must have keys of 1 to 256 and values of 1 to 512 characters, not '': 'x'",
        ),
        (
            {"attributes": {"k": ""}},
            ValueError,
            ": attributes must have keys of 1 to 256 and values of 1 to 512 characters, not 'k': ''",
        ),
        (
            {"attributes": {"k": "v" * 513}},
            ValueError,
            f": attributes must have keys of 1 to 256 and values of 1 to 512 characters, not 'k': '{'v' * 513}'",
        ),
    ],
)
def test_a_wrong_entity_is_refused(value: Any, error: type[Exception], text: str) -> None:
    """Before the service would refuse every batch for it, and every event with it."""
    with pytest.raises(error) as caught:
        options.entity("argument", value)
    assert str(caught.value) == f"argument{text}"


def test_zero_seconds_may_be_too_few() -> None:
    """Where a pause is needed."""
    assert options.seconds("argument", 0.1, positive=True) == 0.1
    with pytest.raises(ValueError, match=r"^argument must be more than 0 and at most "):
        options.seconds("argument", 0, positive=True)


def test_the_longest_time_can_be_waited() -> None:
    """What is accepted here overflows no lock and no queue later."""
    lock = threading.Lock()
    assert lock.acquire(timeout=options.seconds("argument", LONGEST))


@pytest.mark.parametrize(("value", "allowed"), [(7.0, 7), (Mode.SPLIT, "split")])
def test_a_choice_comes_in_the_listed_type(value: object, allowed: object) -> None:
    """The service takes 7 days, not 7.0."""
    checked = options.choice("argument", value, (None, allowed))
    assert checked is allowed


@pytest.mark.parametrize("check", [options.mapping, options.tags])
def test_a_mapping_is_copied(check: Callable[..., dict[str, str]]) -> None:
    """What the application does to its own later has no effect."""
    given = {"a": "b"}
    checked = check("argument", given)
    given["c"] = "d"
    assert checked == {"a": "b"}


def test_an_entity_is_copied() -> None:
    """To its last level."""
    given = {"keyAttributes": {"Type": "Service", "Name": "app"}}
    checked = options.entity("argument", given)
    given["keyAttributes"].clear()
    assert checked == {"keyAttributes": {"Type": "Service", "Name": "app"}}


def test_the_limits_of_tags_are_the_service_models() -> None:
    """Counts, lengths and characters."""
    assert SHAPES["Tags"]["max"] == 50
    assert (SHAPES["TagKey"]["min"], SHAPES["TagKey"]["max"], SHAPES["TagValue"]["max"]) == (1, 128, 256)
    assert SHAPES["TagKey"]["pattern"] == r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$"


@CURRENT
@pytest.mark.parametrize("member", ["keyAttributes", "attributes"])
def test_the_limits_of_an_entity_are_the_service_models(member: str) -> None:
    """Counts and lengths of both members."""
    shape = SHAPES[SHAPES["Entity"]["members"][member]["shape"]]
    key, value = SHAPES[shape["key"]["shape"]], SHAPES[shape["value"]["shape"]]
    assert options._ENTITY[member] == (shape["min"], shape["max"], key["max"], value["max"])
    assert (key["min"], value["min"]) == (1, 1)
    assert set(SHAPES["Entity"]["members"]) == set(options._ENTITY)
