"""From a record to its text, without changing the record."""

from __future__ import annotations

import datetime
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Literal

from . import options

#: Levels of nesting beyond which an object that JSON has no form for is cut off.
_DEEPEST = 100


def serialize_default(value: object) -> str:
    """Text for a value that JSON has no form for: ISO 8601 for dates and times, ``repr`` for everything else."""
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return repr(value)


class CloudWatchFormatter(logging.Formatter):
    """The formatter that :class:`CloudWatchHandler` uses when it is given no other.

    A mapping as the message (``log.info({"order": 17})``) becomes one JSON object, whose keys CloudWatch Logs Insights
    finds by itself; a traceback is added under ``exc_info``, a stack under ``stack_info``. Every other message becomes
    the text that :class:`logging.Formatter` makes of it. Neither changes the record, nor a mapping that was logged, so
    that the handlers that come after see what the application said.

    Args:
        fmt, datefmt, style, validate, defaults: as for :class:`logging.Formatter`; used for messages that are no
            mapping. None for ``fmt`` means the message alone, followed by the traceback if there is one.
        json_serialize_default: makes a JSON value of an object that :mod:`json` does not know, or its dotted path; None
            means :func:`serialize_default`.
        add_log_record_attrs: names of record attributes to add to the JSON object. When it is not empty, a message
            that is no mapping becomes ``{"msg": text, …}``. A record that lacks an attribute gets null. None for none.

    Raises:
        TypeError, ValueError: an argument breaks its rule.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        validate: bool = True,
        *,
        defaults: Mapping[str, object] | None = None,
        json_serialize_default: Callable[[object], object] | str | None = None,
        add_log_record_attrs: Sequence[str] | None = None,
    ) -> None:
        super().__init__(fmt, datefmt, style, validate, defaults=defaults)
        default = options.function("json_serialize_default", json_serialize_default)
        self.json_serialize_default = default or serialize_default
        if isinstance(add_log_record_attrs, (str, bytes)) or not isinstance(add_log_record_attrs or [], Iterable):
            raise TypeError(f"add_log_record_attrs must be a list of names or None, not {add_log_record_attrs!r}")
        self.add_log_record_attrs = add_log_record_attrs or ()
        self._message_only = fmt is None

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of the record.

        Raises:
            Exception: whatever formatting its arguments raises; the handler reports that through ``handleError``.
        """
        message = record.msg
        if type(message) is not str and isinstance(message, Mapping):
            attributes = self._attributes(record)
            kept = {name: message[name] for name in attributes if name in message and not hasattr(record, str(name))}
            return self._to_json({**message, **attributes, **kept, **self._traces(record)}, of=message)
        if self.add_log_record_attrs:
            return self._to_json({"msg": record.getMessage(), **self._attributes(record), **self._traces(record)})
        if self._message_only and not (record.exc_info or record.exc_text or record.stack_info):
            return record.getMessage()
        # logging.Formatter leaves its results in the record, where the next handler would find them.
        return super().format(copy(record))

    def _attributes(self, record: logging.LogRecord) -> dict[object, object]:
        return {name: getattr(record, name, None) for name in self.add_log_record_attrs if name != "msg"}

    def _traces(self, record: logging.LogRecord) -> dict[object, object]:
        traces: dict[object, object] = {}
        if record.exc_info:
            if record.exc_info[0] is not None:  # else there was no exception to tell of
                traces["exc_info"] = self.formatException(record.exc_info)
        elif record.exc_text:  # pickled by a QueueHandler: the text is all there is
            traces["exc_info"] = record.exc_text
        if record.stack_info:
            traces["stack_info"] = self.formatStack(record.stack_info)
        return traces

    def _to_json(self, message: Mapping[object, object], of: object = None) -> str:
        """JSON of a message; ``of`` is the object that the application logged."""
        try:
            return json.dumps(message, default=self.json_serialize_default, allow_nan=False, ensure_ascii=False)
        except Exception:  # no JSON, too deep, or what the default raises
            plain = _representable(message, self.json_serialize_default, (id(of),))
            return json.dumps(plain, allow_nan=False, ensure_ascii=False)


def _representable(value: object, default: Callable[[object], object], parents: tuple[int, ...]) -> object:
    """A copy that JSON can express.

    Odd keys and numbers come as their text, a reference to a parent as ``"<circular>"``, what ``default`` cannot make
    a value of as its ``repr``.
    """
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if id(value) in parents:
        return "<circular>"
    if len(parents) > _DEEPEST:
        return "<nested too deeply>"
    parents = (*parents, id(value))
    if isinstance(value, Mapping):
        return {
            key if key is None or isinstance(key, (str, int)) else str(key): _representable(item, default, parents)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_representable(item, default, parents) for item in value]
    try:
        made = default(value)
    except Exception:
        return repr(value)
    return _representable(made, default, parents)
