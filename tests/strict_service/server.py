"""The strict service over HTTP on loopback: it records each request, and faults may strike it."""

from __future__ import annotations

import functools
import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import boto3  # type: ignore[import-untyped,unused-ignore]
from botocore.config import Config  # type: ignore[import-untyped,unused-ignore]

from .account import Account
from .connection import Server
from .faults import Answer, Error, Fault, Injection
from .rules import EVENT_OVERHEAD_BYTES, SECOND_MS
from .shapes import Json, Refused
from .signature import ACCESS_KEY, SECRET_KEY, check_signature
from .state import Options

# boto3 makes its classes of clients at run time; there is no type to name.
Client: TypeAlias = Any

TARGET_PREFIX = "Logs_20140328."
CONTENT_TYPE = "application/x-amz-json-1.1"
REGION = "us-east-1"


class StoredEvent(NamedTuple):
    """An event that was accepted; times in ms since the epoch."""

    timestamp: int
    message: str
    ingestion_time: int


@dataclass
class Request:
    """A request as it arrived; ``status`` is None until it was answered, ``error`` if it was well.

    ``body_size`` is bytes on the wire; ``time`` is monotonic, in seconds; ``peer`` is the client's
    address and port, one for each of its connections.
    """

    operation: str
    parameters: Json
    headers: dict[str, str]
    gzip: bool
    body_size: int
    time: float
    peer: tuple[str, int]
    status: int | None = None
    error: str | None = None


class StrictService:
    """A CloudWatch Logs on loopback that holds every documented rule; a context manager.

    Args:
        clock: Returns seconds since the epoch; bound at import, so freezegun does not reach it.
        latency: Seconds before each answer.
        refuse_gzip: Compressed bodies are refused, with 415 or with the error given.
        port: 0 for any free one.
        options: The fields of ``state.Options``, such as ``enforce_tokens`` and ``page_size``.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        latency: float = 0.0,
        refuse_gzip: bool | Error = False,
        port: int = 0,
        **options: Any,
    ) -> None:
        self.options = Options(**options)
        self.latency = latency
        self.refuse_gzip = refuse_gzip
        self._clock = clock
        self._account = Account(self.options)
        self._changed = threading.Condition(threading.RLock())
        self._requests: list[Request] = []
        self._violations: list[tuple[str, str]] = []
        self._injections: list[Injection] = []
        self._clients: list[Client] = []
        self._server = Server(self, port)
        self.url = self._server.url

    def __enter__(self) -> StrictService:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every connection and request in progress, and frees the port. Idempotent."""
        self._server.close()
        for client in self._clients:
            client.close()

    # What tests look at

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in order of arrival."""
        with self._changed:
            return list(self._requests)

    @property
    def violations(self) -> list[tuple[str, str]]:
        """Operation and broken rule, for each request that a correct client never sends."""
        with self._changed:
            return list(self._violations)

    def count(self, operation: str) -> int:
        """How many requests for the operation arrived."""
        with self._changed:
            return sum(request.operation == operation for request in self._requests)

    def events(self, group: str, stream: str) -> list[StoredEvent]:
        """The events stored in a stream, in order of acceptance; none if there is no stream."""
        with self._changed:
            try:
                rows = self._account.find_stream(group, stream).rows
            except Refused:
                return []
            return [StoredEvent(row.timestamp, row.message, row.ingestion_time) for row in rows]

    def messages(self, group: str, stream: str) -> list[str]:
        """The messages stored in a stream, in order of acceptance."""
        return [event.message for event in self.events(group, stream)]

    def wait_for(self, predicate: Callable[[], bool], timeout: float = 30) -> bool:
        """Waits until the predicate is true; it is tried whenever a request arrives or ends."""
        with self._changed:
            return self._changed.wait_for(predicate, timeout)

    # What tests change

    def client(self, **kwargs: Any) -> Client:
        """A boto3 client of this service, with dummy credentials and without retries.

        Keyword arguments go to boto3; a ``config`` is merged into the one described.
        """
        config = Config(retries={"total_max_attempts": 1}).merge(kwargs.pop("config", Config()))
        arguments = {
            "region_name": REGION,
            "endpoint_url": self.url,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
        }
        client = _session().client("logs", config=config, **arguments | kwargs)
        self._clients.append(client)
        return client

    @property
    def poison(self) -> Callable[[str], bool] | None:
        """A predicate; PutLogEvents refuses a batch with a message for which it is true."""
        return self.options.poison

    @poison.setter
    def poison(self, predicate: Callable[[str], bool] | None) -> None:
        self.options.poison = predicate

    def create_log_group(self, name: str, retention_days: int | None = None) -> None:
        """Makes a group."""
        self._do("CreateLogGroup", logGroupName=name)
        if retention_days is not None:
            self._do("PutRetentionPolicy", logGroupName=name, retentionInDays=retention_days)

    def create_log_stream(self, group: str, stream: str) -> None:
        """Makes a stream, and its group where that is missing."""
        with self._changed:
            if group not in self._account.groups:
                self.create_log_group(group)
            self._do("CreateLogStream", logGroupName=group, logStreamName=stream)

    def delete_log_group(self, name: str) -> None:
        """Deletes a group with its streams and events."""
        self._do("DeleteLogGroup", logGroupName=name)

    def delete_log_stream(self, group: str, stream: str) -> None:
        """Deletes a stream with its events."""
        self._do("DeleteLogStream", logGroupName=group, logStreamName=stream)

    def add_events(
        self,
        group: str,
        stream: str,
        events: Iterable[tuple[int, str]],
        *,
        visible_after: float = 0.0,
    ) -> None:
        """Stores (timestamp, message) as they are, of any age; visible after that many seconds."""
        sized = [(at, text, len(text.encode()) + EVENT_OVERHEAD_BYTES) for at, text in events]
        with self._changed:
            found, now = self._account.find_stream(group, stream), self._now()
            visible_at = now + int(visible_after * SECOND_MS)
            self._account.store(found, sized, now=now, visible_at=visible_at)

    def inject(
        self,
        fault: Fault,
        operation: str | None = "PutLogEvents",
        times: int | None = 1,
        skip: int = 0,
        when: Callable[[Json], bool] = lambda parameters: True,
    ) -> Injection:
        """Puts a fault in the way of requests for an operation (None: any).

        It strikes ``times`` requests (None: until removed) for which ``when`` is true, after
        ``skip`` of them went through. Of several faults the one injected first strikes.
        """
        injection = Injection(fault, operation, times, skip, when)
        with self._changed:
            self._injections.append(injection)
        return injection

    # What the connections call, each on its own thread

    def arrive(
        self,
        headers: dict[str, str],
        body: bytes,
        peer: tuple[str, int],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> tuple[Request, Fault | None]:
        """Records a request; a fault that strikes it, or a refusal of its form, comes with it."""
        target = headers.get("x-amz-target", "")
        operation = target.removeprefix(TARGET_PREFIX)
        compressed = headers.get("content-encoding", "") == "gzip"
        request = Request(operation, {}, headers, compressed, len(body), monotonic(), peer)
        problem: Fault | None = None
        if compressed and self.refuse_gzip:
            problem = self.refuse_gzip if isinstance(self.refuse_gzip, Error) else _NO_GZIP
        else:
            try:
                check_signature(headers, body)
                request.parameters = _parse(headers, body)
            except Refused as refused:
                self.violate(operation, refused.message)
                problem = Error(refused.code, 400, refused.message)
        with self._changed:
            self._requests.append(request)
            for injection in self._injections if problem is None else ():
                if injection.strikes(operation, request.parameters):
                    problem = injection.fault
                    break
            self._changed.notify_all()
        return request, problem

    def carry_out(self, request: Request) -> Answer:
        """Does what the request asks for; the answer is not sent yet."""
        try:
            with self._changed:
                result = self._account.call(request.operation, request.parameters, now=self._now())
        except Refused as refused:
            if refused.violation:
                self.violate(request.operation, refused.message)
            return error_answer(refused.code, refused.message, 400, refused.fields)
        return Answer(200, json.dumps(result).encode() if result else b"")

    def settle(self, request: Request, answer: Answer) -> None:
        """Notes the answer of a request, just before it is sent."""
        with self._changed:
            request.status, request.error = answer.status, answer.code
            self._changed.notify_all()

    def violate(self, operation: str, rule: str) -> None:
        """Records a broken rule."""
        with self._changed:
            self._violations.append((operation, rule))
            self._changed.notify_all()

    def _do(self, operation: str, **parameters: object) -> None:
        with self._changed:
            self._account.call(operation, parameters, now=self._now())

    def _now(self) -> int:
        return int(self._clock() * SECOND_MS)


_NO_GZIP = Error("UnsupportedMediaTypeException", 415, "Content-Encoding gzip is not supported")


def error_answer(code: str, message: str, status: int, fields: Json) -> Answer:
    """An error in the shape of AWS JSON 1.1; access errors spell ``Message`` with a capital."""
    key = "Message" if code == "AccessDeniedException" else "message"
    return Answer(status, json.dumps({"__type": code, key: message, **fields}).encode(), code)


def _parse(headers: dict[str, str], body: bytes) -> Json:
    if headers.get("content-type") != CONTENT_TYPE:
        raise Refused("SerializationException", f"the content type must be {CONTENT_TYPE}")
    if not headers.get("x-amz-target", "").startswith(TARGET_PREFIX):
        raise Refused("UnknownOperationException", f"X-Amz-Target must begin with {TARGET_PREFIX}")
    encoding = headers.get("content-encoding", "")
    if encoding not in ("", "gzip"):
        raise Refused("SerializationException", f"unknown content encoding {encoding!r}")
    try:
        text = (gzip.decompress(body) if encoding else body).decode()
        parameters = json.loads(text)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise Refused("SerializationException", f"the body is not JSON: {error}") from None
    if not isinstance(parameters, dict):
        raise Refused("SerializationException", "the body is not a JSON object")
    return parameters


@functools.lru_cache(maxsize=1)
def _session() -> boto3.session.Session:
    """One session for all clients: the service model is read once."""
    return boto3.session.Session()
