"""CloudWatch Logs as delivery wants it, through boto3: requests go out here finished.

PutLogEvents is the expensive one. botocore validates 10,000 events in Python and then serializes them: 62 ms a batch.
The events here are encoded already, so the call is made with a stand-in event, and its body is replaced in botocore's
documented ``before-call`` event; botocore still signs, resolves endpoints, uses proxies and reads the answer. What is
no genuine boto3 client (a test double, a wrapper, a patched method) is called in the plain way.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, cast

import botocore.client

from . import errors, options
from .compression import Compression
from .connection import Connection
from .delivery import PutResult
from .event import Destination, Event
from .source import Answer, Boto3Client, ClientSource

#: Text shrinks to a tenth either way; level 1 takes a third of the time of the default level.
GZIP_LEVEL = 1

_STAND_IN = {"timestamp": 0, "message": "-"}
_EVENT_NAME = "before-call.cloudwatch-logs.PutLogEvents"


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """What a group that the handler creates is created with; None leaves the service's default."""

    tags: Mapping[str, str] | None = None
    kms_key_id: str | None = None
    log_group_class: str | None = None


class _Body:
    """The finished body of the PutLogEvents under way in this context."""

    current: ContextVar[tuple[bytes, bool] | None] = ContextVar("cloudwatch_handler_body", default=None)

    @classmethod
    def can_be_put_in(cls, client: Boto3Client) -> bool:
        """Whether this is a client whose calls reach botocore unchanged; if so, see to it that ``put_in`` is called."""
        if not isinstance(client, botocore.client.BaseClient):
            return False
        for method in (client.put_log_events, client._make_api_call):
            if getattr(method, "__module__", None) != botocore.client.__name__:  # patched, in a test for instance
                return False
        client.meta.events.register(_EVENT_NAME, cls.put_in, unique_id="cloudwatch_handler")
        return True

    @classmethod
    def put_in(cls, params: dict[str, object], **_: object) -> None:
        """Called by botocore between serialization and signature; other users' calls pass unchanged."""
        finished = cls.current.get()
        if finished is None:
            return
        cls.current.set(None)  # a hook that calls PutLogEvents on its own is another user
        body, compressed = finished
        params["body"] = body
        if compressed:
            cast(dict[str, str], params["headers"])["Content-Encoding"] = "gzip"


class CloudWatchLogs:
    """CloudWatch Logs as :class:`~cloudwatch_handler.delivery.Service`, through boto3.

    The client is made at the first request. One thread at a time.

    Args:
        source: where the client comes from.
        compression: ``"gzip"`` or None.
        entity: goes into every PutLogEvents, or None.
        group: what new groups are created with; None leaves it to the service.

    Raises:
        TypeError, ValueError: the service would not take the entity.
    """

    def __init__(
        self,
        source: ClientSource,
        *,
        compression: Literal["gzip"] | None = "gzip",
        entity: Mapping[str, object] | None = None,
        group: GroupOptions | None = None,
    ) -> None:
        self._connection = Connection(source)
        self._call = self._connection.call
        self._entity = options.entity("entity", entity)
        self._group = group or GroupOptions()
        self._compression = Compression(compression is not None)

    def put_log_events(self, destination: Destination, events: Sequence[Event], token: str | None) -> PutResult:
        """Send events that are legal as one batch.

        Raises:
            ServiceError: see :mod:`cloudwatch_handler.errors`.
        """
        envelope: dict[str, object] = {
            "logGroupName": destination.log_group_name,
            "logStreamName": destination.log_stream_name,
        }
        if token is not None:
            envelope["sequenceToken"] = token
        if self._entity is not None:
            envelope["entity"] = self._entity
        head = json.dumps(envelope, separators=(",", ":")).encode()
        raw = b"".join((head[:-1], b',"logEvents":[', b",".join([event.fragment for event in events]), b"]}"))
        client = self._connection.client("PutLogEvents")
        if not _Body.can_be_put_in(client):
            plain = [json.loads(event.fragment) for event in events]
            answer = self._call("PutLogEvents", lambda _: client.put_log_events(**envelope, logEvents=plain))
            return _put_result(answer, bytes_raw=len(raw), bytes_sent=len(raw))
        compressed = self._compression.on
        body = gzip.compress(raw, GZIP_LEVEL, mtime=0) if compressed else raw
        reset = _Body.current.set((body, compressed))
        try:
            answer = self._call("PutLogEvents", lambda _: client.put_log_events(**envelope, logEvents=[_STAND_IN]))
        except errors.ServiceError as error:
            raise self._compression.failed(error) from error.__cause__
        finally:
            _Body.current.reset(reset)
        self._compression.succeeded()
        return _put_result(answer, bytes_raw=len(raw), bytes_sent=len(body))

    def upload_token(self, destination: Destination) -> tuple[str | None, int]:
        """The stream's current upload token, None for a new or missing stream, and how many requests that took.

        DescribeLogStreams matches by prefix, 50 a page: ``web-1`` may stand behind a hundred ``web-1…``.
        """
        parameters = {
            "logGroupName": destination.log_group_name,
            "logStreamNamePrefix": destination.log_stream_name,
            "orderBy": "LogStreamName",
        }
        requests = 0
        while True:
            requests += 1
            try:
                answer = self._call("DescribeLogStreams", lambda client: client.describe_log_streams(**parameters))
            except errors.ServiceError as error:
                error.requests = requests
                raise
            for stream in cast(Sequence[Mapping[str, str]], answer.get("logStreams", ())):
                if stream.get("logStreamName") == destination.log_stream_name:
                    return stream.get("uploadSequenceToken") or None, requests
            page_token = cast("str | None", answer.get("nextToken"))
            if not page_token or page_token == parameters.get("nextToken"):
                return None, requests
            parameters["nextToken"] = page_token

    def create_log_group(self, name: str) -> None:
        """Create the group with its tags, key and class."""
        optional = {
            "tags": self._group.tags,
            "kmsKeyId": self._group.kms_key_id,
            "logGroupClass": self._group.log_group_class,
        }
        parameters = {key: value for key, value in optional.items() if value}
        self._call("CreateLogGroup", lambda client: client.create_log_group(logGroupName=name, **parameters))

    def put_retention_policy(self, name: str, days: int) -> None:
        """Set how many days the group keeps its events."""
        self._call(
            "PutRetentionPolicy",
            lambda client: client.put_retention_policy(logGroupName=name, retentionInDays=days),
        )

    def create_log_stream(self, destination: Destination) -> None:
        """Create the stream."""
        group, stream = destination
        self._call("CreateLogStream", lambda client: client.create_log_stream(logGroupName=group, logStreamName=stream))


def _put_result(answer: Answer, *, bytes_raw: int, bytes_sent: int) -> PutResult:
    rejected = cast(Mapping[str, int], answer.get("rejectedLogEventsInfo") or {})
    return PutResult(
        next_token=cast("str | None", answer.get("nextSequenceToken")) or None,
        too_old_end=rejected.get("tooOldLogEventEndIndex", 0),
        expired_end=rejected.get("expiredLogEventEndIndex", 0),
        too_new_start=rejected.get("tooNewLogEventStartIndex"),
        bytes_raw=bytes_raw,
        bytes_sent=bytes_sent,
    )
