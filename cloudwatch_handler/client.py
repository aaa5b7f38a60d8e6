"""The one door to boto3: requests go out here finished, and every error comes in here translated.

PutLogEvents is the expensive one. botocore validates 10,000 events in Python and then serializes them: 62 ms a batch.
The events here are encoded already, so the call is made with a stand-in event, and its body is replaced in botocore's
documented ``before-call`` event; botocore still signs, resolves endpoints, uses proxies and reads the answer. What is
no genuine boto3 client (a test double, a wrapper, a patched method) is called in the plain way.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol, cast

import boto3
import botocore.client
import botocore.config
import botocore.credentials
import botocore.exceptions
import botocore.session

from . import errors, options
from .compression import Compression
from .delivery import PutResult
from .event import Destination, Event
from .translate import translate
from .waiting import time_for_calls

#: Seconds. Short, because a call that hangs must not hold up a process that wants to end.
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
#: Text shrinks to a tenth either way; level 1 takes a third of the time of the default level.
GZIP_LEVEL = 1

_STAND_IN = {"timestamp": 0, "message": "-"}
_EVENT_NAME = "before-call.cloudwatch-logs.PutLogEvents"
#: Codes that credentials get which a new client may find renewed: in a file, in the environment, at an endpoint.
_STALE_CREDENTIALS = frozenset(
    (
        *("NoCredentialsError", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId"),
        *("InvalidClientTokenId", "UnrecognizedClientException", "InvalidSignatureException"),
    )
)

Answer = Mapping[str, object]


class Boto3Client(Protocol):
    """As much of a boto3 ``logs`` client as this package calls."""

    def put_log_events(self, **parameters: object) -> Answer:
        """Call PutLogEvents."""

    def describe_log_streams(self, **parameters: object) -> Answer:
        """Call DescribeLogStreams."""

    def create_log_group(self, **parameters: object) -> Answer:
        """Call CreateLogGroup."""

    def create_log_stream(self, **parameters: object) -> Answer:
        """Call CreateLogStream."""

    def put_retention_policy(self, **parameters: object) -> Answer:
        """Call PutRetentionPolicy."""

    def get_log_events(self, **parameters: object) -> Answer:
        """Call GetLogEvents."""

    def filter_log_events(self, **parameters: object) -> Answer:
        """Call FilterLogEvents."""


@dataclass(frozen=True, slots=True)
class ClientSource:
    """Where the boto3 client comes from.

    Attributes:
        boto3_client: a client, a callable that makes one, or None: it is made from what follows.
        boto3_profile_name, region_name, endpoint_url: as boto3 takes them; None means boto3's own search.
        role_arn: a role to assume (and to assume again before it expires), or None.
    """

    boto3_client: Boto3Client | Callable[[], Boto3Client] | None = None
    boto3_profile_name: str | None = None
    region_name: str | None = None
    endpoint_url: str | None = None
    role_arn: str | None = None
    _pid: int = field(default_factory=os.getpid, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.boto3_client is None:
            return
        for name in ("boto3_profile_name", "region_name", "endpoint_url", "role_arn"):
            if (value := getattr(self, name)) is not None:
                raise ValueError(f"{name} configures the client that the handler makes; with boto3_client it has no "
                                 f"effect, so give one of them, not {name}={value!r}")  # fmt: skip

    def make(self, *, attempts: int = 1, within: float = math.inf) -> Boto3Client:
        """The client. Looking for credentials may take network I/O.

        Args:
            attempts: how often the client itself may try a request, when it is made here.
            within: seconds that a request may take, likewise.

        Raises:
            Exception: what boto3 raises, for an unknown profile or when no region is configured.
        """
        given = self.boto3_client
        if given is None:
            return self._make(attempts, within)
        is_client = hasattr(given, "put_log_events") and not isinstance(given, type)
        client = cast(Boto3Client, given if is_client else cast(Callable[[], object], given)())
        if self._pid != os.getpid() and isinstance(client, botocore.client.BaseClient):
            client.close()  # its pooled connections may be the parent's; it opens its own
        return client

    def _make(self, attempts: int, within: float) -> Boto3Client:
        config = botocore.config.Config(
            connect_timeout=min(CONNECT_TIMEOUT, within / 8),  # a host may have several addresses
            read_timeout=min(READ_TIMEOUT, within / 2),
            retries={"mode": "standard", "total_max_attempts": attempts},
            user_agent_extra="cloudwatch_handler",
        )
        session = botocore.session.Session(profile=self.boto3_profile_name)
        if self.region_name is not None:
            session.set_config_variable("region", self.region_name)
        if self.role_arn is not None:
            credentials = session.get_credentials()
            if credentials is None:
                raise botocore.exceptions.NoCredentialsError
            role = botocore.credentials.AssumeRoleCredentialFetcher(
                client_creator=partial(session.create_client, config=config),
                source_credentials=credentials,
                role_arn=self.role_arn,
                extra_args={"RoleSessionName": "cloudwatch_handler"},
            )
            session._credentials = botocore.credentials.DeferredRefreshableCredentials(
                method="assume-role", refresh_using=role.fetch_credentials
            )
        session = boto3.session.Session(botocore_session=session)
        return cast(Boto3Client, session.client("logs", endpoint_url=self.endpoint_url, config=config))


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
        self._source = source
        self._entity = options.entity("entity", entity)
        self._group = group or GroupOptions()
        self._compression = Compression(compression is not None)
        self._client: Boto3Client | None = None
        self._hasty: tuple[float, Boto3Client] | None = None  # and the seconds that its requests may take

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
        client = self._connect("PutLogEvents")
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
            answer = self._call("DescribeLogStreams", lambda client: client.describe_log_streams(**parameters))
            requests += 1
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

    def _connect(self, operation: str) -> Boto3Client:
        within = time_for_calls()
        try:
            if within < CONNECT_TIMEOUT + READ_TIMEOUT and self._source.boto3_client is None:
                return self._connect_in_haste(max(within, 0.1))
            if self._client is None:
                self._client = self._source.make()
        except Exception as error:
            raise errors.Denied(operation, type(error).__name__, f"no boto3 client: {error}") from error
        return self._client

    def _connect_in_haste(self, within: float) -> Boto3Client:
        """A client whose requests end in time; made for half of the time, so that it serves until half is gone."""
        if self._hasty is None or self._hasty[0] > within:
            client = self._source.make(within=within / 2)
            self._disconnect_haste()
            self._hasty = within / 2, client
        return self._hasty[1]

    def _call(self, operation: str, call: Callable[[Boto3Client], Answer]) -> Answer:
        client = self._connect(operation)
        try:
            answer: object = call(client)
        except Exception as error:
            meant = translate(operation, error)
            if meant.code in _STALE_CREDENTIALS:
                self._disconnect()
            raise meant from error
        if not isinstance(answer, Mapping):  # a double's
            return {}
        _check_origin(operation, answer)
        return answer

    def _disconnect(self) -> None:
        """Have the client made again for the next request."""
        if self._source.boto3_client is None and isinstance(self._client, botocore.client.BaseClient):
            self._client.close()
        self._client = None
        self._disconnect_haste()

    def _disconnect_haste(self) -> None:
        if self._hasty is not None and isinstance(self._hasty[1], botocore.client.BaseClient):
            self._hasty[1].close()
        self._hasty = None


def _check_origin(operation: str, answer: Answer) -> None:
    """A proxy's HTTP 200 parses as an empty answer; only the service's own counts."""
    metadata = cast(Mapping[str, object], answer.get("ResponseMetadata", {}))
    headers = cast("Mapping[str, str] | None", metadata.get("HTTPHeaders"))
    if headers is None or "RequestId" in metadata:  # no headers: a stub's
        return
    what = headers.get("content-type", "no content type")
    if not what.startswith("application/x-amz-json"):
        raise errors.NotTheService(operation, "NotTheService", f"HTTP 200 with {what} and no x-amzn-RequestId")


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
