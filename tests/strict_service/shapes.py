"""The shapes of requests: types, lengths, patterns and choices, as the service model states them.

The tables carry the model's own shape names, so that ``tests/test_strict_service.py`` can compare
each row with the model that ships in botocore (``data/logs/2014-03-28/service-2.json``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


class Refused(Exception):
    """A request that gets an error for an answer.

    Args:
        code: The error code, as in ``__type``.
        message: The text of the error.
        violation: True when the caller broke a rule of the service; False for what a correct
            caller may meet too (a missing stream, a stale token, throttling).
        fields: Further members of the error, such as ``expectedSequenceToken``.
    """

    def __init__(self, code: str, message: str, *, violation: bool = True, **fields: str | None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.violation = violation
        self.fields = {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Shape:
    """What one value must look like; None for a bound means unbounded.

    ``least`` and ``most`` bound a length (str, list, dict) or a value (int). ``of`` names the
    shapes of a list's members (one) or of a map's keys and values (two).
    """

    kind: type
    least: int | None = None
    most: int | None = None
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Structure:
    """The members of a request by name, each with the name of its shape."""

    members: dict[str, str]
    required: frozenset[str] = frozenset()


_GROUP = r"[\.\-_/#A-Za-z0-9]+"
_IDENTIFIER = r"[\w#+=/:,.@-]*"
_STREAM = r"[^:*]*"

SHAPES: dict[str, Shape] = {
    "AccountId": Shape(str, 12, 12, r"^\d{12}$"),
    "AccountIds": Shape(list, 0, 20, of=("AccountId",)),
    "AmazonResourceName": Shape(str, 1, 1011, r"[\w+=/:,.@-]*"),
    "Days": Shape(int),
    "DeletionProtectionEnabled": Shape(bool),
    "DescribeLimit": Shape(int, 1, 50),
    "DescribeLogGroupsLogGroupIdentifiers": Shape(list, 1, 50, of=("LogGroupIdentifier",)),
    "Descending": Shape(bool),
    "EntityAttributes": Shape(dict, 0, 10, of=("EntityAttributesKey", "EntityAttributesValue")),
    "EntityAttributesKey": Shape(str, 1, 256),
    "EntityAttributesValue": Shape(str, 1, 512),
    "EntityKeyAttributes": Shape(dict, 2, 4, of=("EntityKeyAttributesKey", "EntityKeyAttributesValue")),
    "EntityKeyAttributesKey": Shape(str, 1, 32),
    "EntityKeyAttributesValue": Shape(str, 1, 512),
    "EventMessage": Shape(str, 1),
    "EventsLimit": Shape(int, 1, 10_000),
    "FilterPattern": Shape(str, 0, 1024),
    "IncludeLinkedAccounts": Shape(bool),
    # Its members are checked with the batch, on a path that is cheap for 10,000 of them.
    "InputLogEvents": Shape(list, 1, 10_000),
    "InputLogStreamNames": Shape(list, 1, 100, of=("LogStreamName",)),
    "Interleaved": Shape(bool),
    "KmsKeyId": Shape(str, None, 256),
    "LogGroupClass": Shape(str, choices=("STANDARD", "INFREQUENT_ACCESS", "DELIVERY", "ESSENTIALS")),
    "LogGroupIdentifier": Shape(str, 1, 2048, _IDENTIFIER),
    "LogGroupName": Shape(str, 1, 512, _GROUP),
    "LogGroupNamePattern": Shape(str, 0, 512, r"[\.\-_/#A-Za-z0-9]*"),
    "LogStreamName": Shape(str, 1, 512, _STREAM),
    "NextToken": Shape(str, 1),
    "OrderBy": Shape(str, choices=("LogStreamName", "LastEventTime")),
    "SequenceToken": Shape(str, 1),
    "StartFromHead": Shape(bool),
    "TagKey": Shape(str, 1, 128, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$"),
    "TagValue": Shape(str, None, 256, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$"),
    "Tags": Shape(dict, 1, 50, of=("TagKey", "TagValue")),
    "Timestamp": Shape(int, 0),
    "Unmask": Shape(bool),
}

_group = {"logGroupName": "LogGroupName"}
_stream = _group | {"logStreamName": "LogStreamName"}
_either_group = _group | {"logGroupIdentifier": "LogGroupIdentifier"}
_paged = {"nextToken": "NextToken", "limit": "DescribeLimit"}
_read = {
    "startTime": "Timestamp",
    "endTime": "Timestamp",
    "nextToken": "NextToken",
    "limit": "EventsLimit",
    "startFromHead": "StartFromHead",
    "unmask": "Unmask",
}

STRUCTURES: dict[str, Structure] = {
    "CreateLogGroupRequest": Structure(
        _group
        | {
            "kmsKeyId": "KmsKeyId",
            "tags": "Tags",
            "logGroupClass": "LogGroupClass",
            "deletionProtectionEnabled": "DeletionProtectionEnabled",
        },
        frozenset(_group),
    ),
    "CreateLogStreamRequest": Structure(_stream, frozenset(_stream)),
    "DeleteLogGroupRequest": Structure(_group, frozenset(_group)),
    "DeleteLogStreamRequest": Structure(_stream, frozenset(_stream)),
    "DeleteRetentionPolicyRequest": Structure(_group, frozenset(_group)),
    "DescribeLogGroupsRequest": Structure(
        _paged
        | {
            "accountIdentifiers": "AccountIds",
            "includeLinkedAccounts": "IncludeLinkedAccounts",
            "logGroupClass": "LogGroupClass",
            "logGroupIdentifiers": "DescribeLogGroupsLogGroupIdentifiers",
            "logGroupNamePattern": "LogGroupNamePattern",
            "logGroupNamePrefix": "LogGroupName",
        }
    ),
    "DescribeLogStreamsRequest": Structure(
        _either_group
        | _paged
        | {
            "descending": "Descending",
            "logStreamNamePrefix": "LogStreamName",
            "orderBy": "OrderBy",
        }
    ),
    "Entity": Structure({"keyAttributes": "EntityKeyAttributes", "attributes": "EntityAttributes"}),
    "FilterLogEventsRequest": Structure(
        _either_group
        | _read
        | {
            "filterPattern": "FilterPattern",
            "interleaved": "Interleaved",
            "logStreamNamePrefix": "LogStreamName",
            "logStreamNames": "InputLogStreamNames",
        }
    ),
    "GetLogEventsRequest": Structure(
        _either_group | _read | {"logStreamName": "LogStreamName"}, frozenset({"logStreamName"})
    ),
    "ListTagsForResourceRequest": Structure({"resourceArn": "AmazonResourceName"}, frozenset({"resourceArn"})),
    "PutLogEventsRequest": Structure(
        _stream | {"logEvents": "InputLogEvents", "sequenceToken": "SequenceToken", "entity": "Entity"},
        frozenset(_stream) | {"logEvents"},
    ),
    "PutRetentionPolicyRequest": Structure(
        _group | {"retentionInDays": "Days"}, frozenset({"logGroupName", "retentionInDays"})
    ),
    "TagResourceRequest": Structure(
        {"resourceArn": "AmazonResourceName", "tags": "Tags"}, frozenset({"resourceArn", "tags"})
    ),
}

# Python's re knows no Unicode properties; \w is letters, digits and _, \s is the separators.
_PATTERNS = {
    shape.pattern: re.compile(shape.pattern.replace(r"\p{L}\p{Z}\p{N}_", r"\w\s"))
    for shape in SHAPES.values()
    if shape.pattern
}


def invalid(message: str) -> Refused:
    """The error for a request that breaks a rule."""
    return Refused("InvalidParameterException", message)


def constraint(path: str, rule: str) -> Refused:
    """The error for one value that fails its shape, worded as the service words it."""
    return invalid(f"1 validation error detected: Value at '{path}' failed to satisfy constraint: {rule}")


def check(name: str, value: object, path: str = "") -> None:
    """Checks a value against the shape or structure of that name.

    Raises:
        Refused: SerializationException for a wrong type, InvalidParameterException for the rest.
    """
    if name in STRUCTURES:
        _check_structure(STRUCTURES[name], value, path)
        return
    shape = SHAPES[name]
    # Not isinstance: a bool is an int to Python, but not to the service.
    if type(value) is not shape.kind:
        raise Refused("SerializationException", f"{path} is not of type {shape.kind.__name__}")
    if isinstance(value, (str, list, dict, int)):
        extent = value if isinstance(value, int) else len(value)
        what = "value" if isinstance(value, int) else "length"
        if shape.least is not None and extent < shape.least:
            raise constraint(path, f"Member must have {what} of at least {shape.least}")
        if shape.most is not None and extent > shape.most:
            raise constraint(path, f"Member must have {what} of at most {shape.most}")
    if isinstance(value, str):
        if shape.pattern and not _PATTERNS[shape.pattern].fullmatch(value):
            raise constraint(path, f"Member must satisfy regular expression {shape.pattern}")
        if shape.choices and value not in shape.choices:
            raise constraint(path, f"Member must satisfy enum value set: {shape.choices}")
    elif isinstance(value, list) and shape.of:
        for member in value:
            check(shape.of[0], member, f"{path}.member")
    elif isinstance(value, dict) and shape.of:
        for key, member in value.items():
            check(shape.of[0], key, f"{path}.key")
            check(shape.of[1], member, f"{path}.{key}")


def _check_structure(structure: Structure, value: object, path: str) -> None:
    if type(value) is not dict:
        raise Refused("SerializationException", f"{path or 'the request'} is not an object")
    prefix = f"{path}." if path else ""
    for name in structure.required:
        if value.get(name) is None:
            raise constraint(prefix + name, "Member must not be null")
    for name, member in value.items():
        if name not in structure.members:
            raise invalid(f"the service knows no parameter {prefix}{name}")
        if member is not None:
            check(structure.members[name], member, prefix + name)
