"""The checks of the handler's arguments. Each error names the argument, the rule and the value."""

from __future__ import annotations

import importlib
import logging
import os
import re
import stat
import threading
import unicodedata
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar, cast

T = TypeVar("T")

#: The two members of an entity: fewest and most entries, longest key, longest value (service model: Entity).
_ENTITY = {"keyAttributes": (2, 4, 32, 512), "attributes": (0, 10, 256, 512)}


def seconds(argument: str, value: float, *, positive: bool = False) -> float:
    """A number of seconds, 0 or more, or more than 0.

    Raises:
        TypeError, ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{argument} must be a number of seconds, not {value!r}")
    if not 0 <= value <= threading.TIMEOUT_MAX or (positive and value == 0):
        rule = "more than 0" if positive else "at least 0"
        raise ValueError(f"{argument} must be {rule} and at most {threading.TIMEOUT_MAX:,.0f} seconds, not {value!r}")
    return float(value)


def integer(argument: str, value: int, lowest: int, highest: int | None = None) -> int:
    """A whole number within bounds.

    Raises:
        TypeError, ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be a whole number, not {value!r}")
    if value < lowest or (highest is not None and value > highest):
        rule = f"at least {lowest:,}" if highest is None else f"from {lowest:,} to {highest:,}"
        raise ValueError(f"{argument} must be {rule}, not {value!r}")
    return value


def flag(argument: str, value: bool) -> bool:
    """True or False.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False, not {value!r}")
    return value


def text(argument: str, value: str | None) -> str | None:
    """A string that is not empty, or None.

    Raises:
        TypeError, ValueError: it is neither.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{argument} must be a string or None, not {value!r}")
    if value == "":
        raise ValueError(f"{argument} must not be empty; None leaves it out")
    return value


def level(value: int | str) -> int | str:
    """A level of logging: a number from 0 on, or the name of one.

    Raises:
        TypeError, ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(f"level must be a number or the name of a level, not {value!r}")
    if isinstance(value, int) and value < 0:
        raise ValueError(f"level must be at least 0, not {value!r}")
    if isinstance(value, str) and not isinstance(logging.getLevelName(value), int):
        raise ValueError(f"level must be the name of a level, such as 'INFO', not {value!r}")
    return value


def region(argument: str, value: str | None) -> str | None:
    """The name of a region, as boto3 takes it, or None.

    Raises:
        TypeError, ValueError: it is neither.
    """
    return _matching(argument, value, r"[a-zA-Z0-9](-?[a-zA-Z0-9])*", "the name of a region, such as 'eu-central-1'")


def url(argument: str, value: str | None) -> str | None:
    """The URL of an endpoint, or None.

    Raises:
        TypeError, ValueError: it is neither.
    """
    return _matching(argument, value, r"https?://[^\s/]+(/\S*)?", "a URL, such as 'http://localhost:4566'")


def role(argument: str, value: str | None) -> str | None:
    """The ARN of a role, or None.

    Raises:
        TypeError, ValueError: it is neither.
    """
    rule = "the ARN of a role, such as 'arn:aws:iam::123456789012:role/name'"
    return _matching(argument, value, r"arn:\S{16,2044}", rule)


def _matching(argument: str, value: str | None, pattern: str, rule: str) -> str | None:
    checked = text(argument, value)
    if checked is not None and not re.fullmatch(pattern, checked):
        raise ValueError(f"{argument} must be {rule}, or None, not {value!r}")
    return checked


def choice(argument: str, value: T, allowed: Collection[object]) -> T:
    """One of a few values, in the type in which it is listed: 7 for 7.0.

    Raises:
        ValueError: it is not.
    """
    for one in () if isinstance(value, bool) else allowed:
        if one == value:
            return one
    raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def mapping(argument: str, value: Mapping[str, T] | None) -> dict[str, T] | None:
    """A copy of a mapping with string keys, or None.

    Raises:
        TypeError: it is neither.
    """
    if value is None:
        return None
    given: object = value
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise TypeError(f"{argument} must be a mapping with strings as keys, or None, not {value!r}")
    return dict(value)


def tags(argument: str, value: Mapping[str, str] | None) -> dict[str, str] | None:
    """At most 50 tags: keys of 1 to 128 characters, values of at most 256 (service model: Tags).

    Raises:
        TypeError, ValueError: they break the rule.
    """
    checked = mapping(argument, value)
    if checked is None:
        return None
    if len(checked) > 50:
        raise ValueError(f"{argument} must be at most 50 tags, not {len(checked)}")
    for key, tag in checked.items():
        if not isinstance(tag, str):
            raise TypeError(f"{argument} must have strings as values, not {tag!r} for {key!r}")
        if not 1 <= len(key) <= 128 or len(tag) > 256:
            raise ValueError(f"{argument} must have keys of 1 to 128 and values of at most 256 characters, not {key!r}")
        if not all(map(_may_be_in_tag, key + tag)):
            raise ValueError(f"{argument} must be of letters, digits, blanks and _.:/=+-@, not {key!r}: {tag!r}")
    return checked


def _may_be_in_tag(character: str) -> bool:
    return character in "_.:/=+-@" or unicodedata.category(character)[0] in "LZN"


def entity(argument: str, value: Mapping[str, object] | None) -> dict[str, dict[str, str]] | None:
    """What PutLogEvents takes as ``entity``: ``{"keyAttributes": {…}, "attributes": {…}}``, or None.

    Raises:
        TypeError, ValueError: it is neither.
    """
    given = mapping(argument, value)
    if given is None:
        return None
    checked: dict[str, dict[str, str]] = {}
    for name, attributes in given.items():
        if name not in _ENTITY:
            raise ValueError(f"{argument} must have the members keyAttributes and attributes, not {name!r}")
        if not isinstance(attributes, Mapping):
            raise TypeError(f"{argument}: {name} must be a mapping, not {attributes!r}")
        fewest, most, longest_key, longest_value = _ENTITY[name]
        if not fewest <= len(attributes) <= most:
            raise ValueError(f"{argument}: {name} must have {fewest} to {most} entries, not {len(attributes)}")
        for key, content in attributes.items():
            if not isinstance(key, str) or not isinstance(content, str):
                raise TypeError(f"{argument}: {name} must have strings as keys and values, not {key!r}: {content!r}")
            if not 1 <= len(key) <= longest_key or not 1 <= len(content) <= longest_value:
                raise ValueError(
                    f"{argument}: {name} must have keys of 1 to {longest_key} and values of 1 to {longest_value} "
                    f"characters, not {key!r}: {content!r}"
                )
        checked[name] = dict(attributes)
    return checked


def function(argument: str, value: Callable[..., object] | str | None) -> Callable[..., object] | None:
    """A callable, or the one that a dotted path such as ``"myapp.logs.on_rejected"`` names, or None.

    Raises:
        TypeError: it is none of these.
        ValueError: the path leads to nothing that can be called.
    """
    if value is None or callable(value):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a callable, the dotted path of one, or None, not {value!r}")
    module, _, name = value.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{argument} must be the dotted path of a callable, not {value!r} ({error})") from None
    if not callable(found):
        raise ValueError(f"{argument} must be the dotted path of a callable; {value!r} is {found!r}")
    return cast(Callable[..., object], found)


def named(client: T | str) -> T | Callable[..., object] | None:
    """The argument ``boto3_client``, or what its dotted path names."""
    return function("boto3_client", client) if isinstance(client, str) else client


def directory(argument: str, value: str | os.PathLike[str] | None) -> Path | None:
    """The absolute path of a directory, which may be missing still, or None.

    Raises:
        TypeError: it is no path.
        ValueError: something else is there; or a symbolic link, which is never followed; or everybody may write to it.
    """
    if value is None:
        return None
    try:
        name = os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{argument} must be a path or None, not {value!r}") from None
    if not name or "\0" in name:
        raise ValueError(f"{argument} must be a path as text, or None, not {value!r}")
    path = Path(name).absolute()
    try:
        usable = not path.is_symlink() and (path.is_dir() or not path.exists())
        is_open = path.is_dir() and bool(path.stat().st_mode & stat.S_IWOTH)
    except OSError as error:
        raise ValueError(f"{argument} must be a path that can be used, not {value!r} ({error.strerror})") from None
    if not usable:
        raise ValueError(f"{argument} must be a directory, or not exist yet, and be no symbolic link, not {value!r}")
    if is_open:
        raise ValueError(f"{argument} must be a directory that not everybody may write to, not {value!r}")
    return path
