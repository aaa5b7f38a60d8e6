"""From a record to its text, without changing the record."""

from __future__ import annotations

import datetime
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal


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
        json_serialize_default: makes a JSON value of an object that :mod:`json` does not know; None means
            :func:`serialize_default`.
        add_log_record_attrs: names of record attributes to add to the JSON object. When it is not empty, a message
            that is no mapping becomes ``{"msg": text, …}``. A record that lacks an attribute gets null.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        validate: bool = True,
        *,
        defaults: Mapping[str, object] | None = None,
        json_serialize_default: Callable[[object], object] | None = None,
        add_log_record_attrs: Sequence[str] = (),
    ) -> None:
        super().__init__(fmt, datefmt, style, validate, defaults=defaults)
        self.json_serialize_default = json_serialize_default or serialize_default
        self.add_log_record_attrs = add_log_record_attrs
        self._message_only = fmt is None

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of the record.

        Raises:
            Exception: whatever formatting its arguments raises; the handler reports that through ``handleError``.
        """
        message = record.msg
        if type(message) is not str and isinstance(message, Mapping):
            return self._to_json({**message, **self._attributes(record), **self._traces(record)})
        if self.add_log_record_attrs:
            return self._to_json({"msg": record.getMessage(), **self._attributes(record), **self._traces(record)})
        if self._message_only:
            text = record.getMessage() if record.args else str(message)
            if record.exc_info or record.exc_text or record.stack_info:
                text = "\n".join([text, *map(str, self._traces(record).values())])
            return text
        # logging.Formatter leaves its results in the record, where the next handler would find them.
        return super().format(logging.makeLogRecord(record.__dict__))

    def _attributes(self, record: logging.LogRecord) -> dict[object, object]:
        return {name: getattr(record, name, None) for name in self.add_log_record_attrs if name != "msg"}

    def _traces(self, record: logging.LogRecord) -> dict[object, object]:
        traces: dict[object, object] = {}
        if record.exc_info and record.exc_info[0] is not None:
            traces["exc_info"] = self.formatException(record.exc_info)
        elif record.exc_text:  # pickled by a QueueHandler: the text is all there is
            traces["exc_info"] = record.exc_text
        if record.stack_info:
            traces["stack_info"] = self.formatStack(record.stack_info)
        return traces

    def _to_json(self, message: Mapping[object, object]) -> str:
        try:
            return json.dumps(message, default=self.json_serialize_default, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            return json.dumps(
                _representable(message, ()), default=self.json_serialize_default, allow_nan=False, ensure_ascii=False
            )


def _representable(value: object, parents: tuple[int, ...]) -> object:
    """A copy that JSON can express: odd keys and numbers as their text, a reference to a parent as ``"<circular>"``."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    if id(value) in parents or len(parents) > 100:
        return "<circular>"
    parents = (*parents, id(value))
    if isinstance(value, Mapping):
        return {str(key): _representable(item, parents) for key, item in value.items()}
    return [_representable(item, parents) for item in value]
