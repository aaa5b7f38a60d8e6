"""The one door to boto3: requests go out here finished, and every error comes in here translated.

PutLogEvents is the expensive one. botocore validates 10,000 events in Python and then serializes them: 62 ms a batch.
The events here are encoded already, so the call is made with a stand-in event, and its body is replaced in botocore's
documented ``before-call`` event; botocore still signs, resolves endpoints, uses proxies and reads the answer. A client
that has no events (a test double, say) is called in the plain way.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import boto3
import botocore.config
import botocore.credentials
import botocore.exceptions
import botocore.session

from . import errors
from .compression import Compression
from .delivery import PutResult
from .event import Destination, Event
from .translate import translate

#: Seconds. Short, because a call that hangs must not hold up a process that wants to end.
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
#: Text shrinks to a tenth either way; level 1 takes a third of the time of the default level.
GZIP_LEVEL = 1

_STAND_IN = {"timestamp": 0, "message": "-"}
_EVENT_NAME = "before-call.cloudwatch-logs.PutLogEvents"

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

    def __post_init__(self) -> None:
        if self.boto3_client is None:
            return
        for name in ("boto3_profile_name", "region_name", "endpoint_url", "role_arn"):
            if (value := getattr(self, name)) is not None:
                raise ValueError(f"{name} configures the client that the handler makes; with boto3_client it has no "
                                 f"effect, so give one of them, not {name}={value!r}")  # fmt: skip

    def make(self, *, attempts: int = 1) -> Boto3Client:
        """The client; no network I/O.

        Args:
            attempts: how often the client itself may try a request, when it is made here.

        Raises:
            Exception: what boto3 raises, for an unknown profile or when no region is configured.
        """
        given = self.boto3_client
        if given is not None:
            if hasattr(given, "put_log_events"):
                return cast(Boto3Client, given)
            return given()  # type: ignore[operator, unused-ignore]
        config = botocore.config.Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": attempts},
            user_agent_extra="cloudwatch_handler",
        )
        return cast(Boto3Client, self._session().client("logs", endpoint_url=self.endpoint_url, config=config))

    def _session(self) -> boto3.session.Session:
        session = botocore.session.Session(profile=self.boto3_profile_name)
        if self.region_name is not None:
            session.set_config_variable("region", self.region_name)
        if self.role_arn is None:
            return boto3.session.Session(botocore_session=session)
        source = boto3.session.Session(botocore_session=session)
        fetcher = botocore.credentials.AssumeRoleCredentialFetcher(
            client_creator=source._session.create_client,
            source_credentials=source.get_credentials(),
            role_arn=self.role_arn,
            extra_args={"RoleSessionName": "cloudwatch_handler"},
        )
        assumed = botocore.session.Session(profile=self.boto3_profile_name)
        if source.region_name is not None:
            assumed.set_config_variable("region", source.region_name)
        assumed._credentials = botocore.credentials.DeferredRefreshableCredentials(
            method="assume-role", refresh_using=fetcher.fetch_credentials
        )
        return boto3.session.Session(botocore_session=assumed)


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
    def put_in(cls, params: dict[str, object], **_: object) -> None:
        """Called by botocore between serialization and signature; other users' calls pass unchanged."""
        finished = cls.current.get()
        if finished is None:
            return
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
        self._entity = entity
        self._group = group or GroupOptions()
        self._compression = Compression(compression is not None)
        self._client: Boto3Client | None = None
        self._has_events = False

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
        head = json.dumps(envelope).encode()
        raw = b"".join((head[:-1], b',"logEvents":[', b",".join([event.fragment for event in events]), b"]}"))
        compressed = self._compression.on
        body = gzip.compress(raw, GZIP_LEVEL, mtime=0) if compressed else raw
        try:
            answer = self._put(envelope, events, body, compressed)
        except errors.ServiceError as error:
            status = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
            raise self._compression.failed(status, error) from error.__cause__
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
                if stream["logStreamName"] == destination.log_stream_name:
                    return stream.get("uploadSequenceToken"), requests
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

    def _put(self, envelope: dict[str, object], events: Sequence[Event], body: bytes, compressed: bool) -> Answer:
        self._connect("PutLogEvents")
        if not self._has_events:
            plain = [json.loads(event.fragment) for event in events]
            return self._call("PutLogEvents", lambda client: client.put_log_events(**envelope, logEvents=plain))
        reset = _Body.current.set((body, compressed))
        try:
            return self._call("PutLogEvents", lambda client: client.put_log_events(**envelope, logEvents=[_STAND_IN]))
        finally:
            _Body.current.reset(reset)

    def _connect(self, operation: str) -> Boto3Client:
        if self._client is None:
            try:
                client = self._source.make()
            except Exception as error:
                raise errors.Denied(operation, type(error).__name__, f"no boto3 client: {error}") from error
            meta = getattr(client, "meta", None)
            if isinstance(meta, botocore.client.ClientMeta):
                self._has_events = True
                meta.events.register(_EVENT_NAME, _Body.put_in, unique_id="cloudwatch_handler")
            self._client = client
        return self._client

    def _call(self, operation: str, call: Callable[[Boto3Client], Answer]) -> Answer:
        client = self._connect(operation)
        try:
            answer = call(client)
        except Exception as error:
            raise translate(operation, error) from error
        if self._has_events:
            _check_origin(operation, answer)
        return answer


def _check_origin(operation: str, answer: Answer) -> None:
    """A proxy's HTTP 200 parses as an empty answer; only the service's own counts."""
    metadata = cast(Mapping[str, object], answer.get("ResponseMetadata", {}))
    headers = cast(Mapping[str, str], metadata.get("HTTPHeaders", {}))
    if "RequestId" in metadata or headers.get("content-type", "").startswith("application/x-amz-json"):
        return
    what = headers.get("content-type", "no content type")
    raise errors.NotTheService(operation, "NotTheService", f"HTTP 200 with {what} and no x-amzn-RequestId")


def _put_result(answer: Answer, *, bytes_raw: int, bytes_sent: int) -> PutResult:
    rejected = cast(Mapping[str, int], answer.get("rejectedLogEventsInfo") or {})
    return PutResult(
        next_token=cast("str | None", answer.get("nextSequenceToken")),
        too_old_end=rejected.get("tooOldLogEventEndIndex", 0),
        expired_end=rejected.get("expiredLogEventEndIndex", 0),
        too_new_start=rejected.get("tooNewLogEventStartIndex"),
        bytes_raw=bytes_raw,
        bytes_sent=bytes_sent,
    )
