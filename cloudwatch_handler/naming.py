"""Templates for the names of log groups and streams, and the names they make.

``"{machine_name}/{program_name}"`` is checked once, in the handler's constructor, and compiled: what cannot change in
the life of a process is put in at once, so that the usual template costs a record nothing.
"""

from __future__ import annotations

import datetime
import logging
import os
import platform
import re
import string
import sys
import uuid
from collections.abc import Callable
from typing import Literal

from .event import Destination

MAX_NAME_LENGTH = 512

#: What the service refuses in a name (service model: LogGroupName, LogStreamName).
_FORBIDDEN = {
    "log_group_name": re.compile(r"[^.\-_/#A-Za-z0-9]"),
    "log_stream_name": re.compile(r"[:*\x00-\x1f\x7f\ud800-\udfff]"),
}

#: What no group's name may start with.
_RESERVED = "aws/"

NameArgument = Literal["log_group_name", "log_stream_name"]
Part = Callable[[logging.LogRecord], str]

_SAMPLE = logging.makeLogRecord({"name": "root", "threadName": "MainThread", "created": 0.0})
_MANY_NAMES = 10_000


def program_name() -> str:
    """What is running, in one word: the script's file name, or the package for ``python -m package``."""
    path = sys.argv[0] if sys.argv else ""
    name = os.path.basename(path)
    if name == "__main__.py":
        name = os.path.basename(os.path.dirname(path))
    return name if name not in ("", "-c", "-m", "-") else "python"


class NameTemplate:
    """One checked template.

    Args:
        argument: ``"log_group_name"`` or ``"log_stream_name"``; names the rules, and the argument in error texts.
        template: ``str.format`` text with the fields machine_name, program_name, process_id, thread_name, logger_name,
            uuid, env[NAME] and strftime:FORMAT (UTC, the time of the record).

    Raises:
        TypeError: the template is no string.
        ValueError: an unknown field, an environment variable that is not set, or a name that is empty or too long.
    """

    def __init__(self, argument: NameArgument, template: str) -> None:
        if not isinstance(template, str):
            raise TypeError(f"{argument} must be a string, not {template!r}")
        self._argument = argument
        self._template = template
        self._parts = self._compile()
        sample = self._join(_SAMPLE)
        if not sample:
            raise ValueError(f"{argument} must not be empty: {template!r} gives {sample!r}")
        if len(sample) > MAX_NAME_LENGTH:
            raise ValueError(
                f"{argument} must have at most {MAX_NAME_LENGTH} characters: {template!r} gives {len(sample)}"
            )
        if argument == "log_group_name" and sample.startswith(_RESERVED):
            raise ValueError(f"{argument} must not start with {_RESERVED!r}: {template!r} gives {sample!r}")

    @property
    def is_constant(self) -> bool:
        """True when every record of this process gets the same name."""
        return all(isinstance(part, str) for part in self._parts)

    def render(self, record: logging.LogRecord) -> str:
        """The name for a record: legal for the service, cut at 512 characters."""
        name = _FORBIDDEN[self._argument].sub("_", self._join(record))
        if name.startswith(_RESERVED) and self._argument == "log_group_name":  # a logger's name, say
            name = name.replace("/", "_", 1)
        return name[:MAX_NAME_LENGTH] or "_"

    def _join(self, record: logging.LogRecord) -> str:
        return "".join(part if isinstance(part, str) else part(record) for part in self._parts)

    def _compile(self) -> list[str | Part]:
        parts: list[str | Part] = []
        try:
            fields = list(string.Formatter().parse(self._template))
        except ValueError as error:
            raise ValueError(f"{self._argument} is no valid template: {self._template!r} ({error})") from None
        for literal, field, spec, conversion in fields:
            if literal:
                parts.append(literal)
            if field is not None:
                parts.append(self._field(f"{field}!{conversion}" if conversion else field, spec or ""))
        return parts

    def _field(self, field: str, spec: str) -> str | Part:
        if field == "strftime":
            return lambda record: self._format(_utc(record.created), spec)
        if field == "logger_name":
            return lambda record: self._format(record.name, spec)
        if field == "thread_name":
            return lambda record: self._format(record.threadName or "", spec)
        if field == "process_id":
            return self._format(os.getpid(), spec)
        if field in ("machine_name", "program_name", "uuid"):
            texts = {"machine_name": platform.node(), "program_name": program_name(), "uuid": str(uuid.uuid4())}
            return self._format(texts[field], spec)
        variable = re.fullmatch(r"env\[(.+)\]", field)
        if variable is None:
            raise ValueError(
                f"{self._argument} has the unknown field {field!r} in {self._template!r}; the fields are machine_name, "
                "program_name, process_id, thread_name, logger_name, uuid, env[NAME] and strftime:FORMAT"
            )
        value = os.environ.get(variable[1])
        if not value:
            raise ValueError(
                f"{self._argument} wants the environment variable {variable[1]!r}, which is not set, or empty: "
                f"{self._template!r}"
            )
        return self._format(value, spec)

    def _format(self, value: object, spec: str) -> str:
        try:
            return format(value, spec)
        except ValueError as error:
            raise ValueError(
                f"{self._argument} has the wrong format {spec!r} in {self._template!r} ({error})"
            ) from None


class Naming:
    """Both templates together: the destination of a record.

    Destinations are remembered, so that equal ones are one object. A forked child makes a Naming of its own: its
    process id differs, and so does its uuid.
    """

    def __init__(self, log_group_name: str, log_stream_name: str) -> None:
        self._group = NameTemplate("log_group_name", log_group_name)
        self._stream = NameTemplate("log_stream_name", log_stream_name)
        self._known: dict[Destination, Destination] = {}
        #: The destination of every record, or None when it depends on the record.
        self.constant: Destination | None = None
        if self._group.is_constant and self._stream.is_constant:
            self.constant = Destination(self._group.render(_SAMPLE), self._stream.render(_SAMPLE))

    def destination(self, record: logging.LogRecord) -> Destination:
        """Where this record goes."""
        destination = Destination(self._group.render(record), self._stream.render(record))
        if len(self._known) >= _MANY_NAMES:
            self._known.clear()
        return self._known.setdefault(destination, destination)


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc)
