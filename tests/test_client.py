"""The door to boto3: what arrives at a strict service, what every error becomes, and where clients come from."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qs

import boto3
import botocore.client
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from cloudwatch_handler import errors
from cloudwatch_handler.client import ClientSource, CloudWatchLogs, GroupOptions
from cloudwatch_handler.event import Destination, Event, encode
from tests.strict_service import Error, Fault, Hang, Html, Reset, StrictService, Truncate, black_hole, closed_port
from tests.strict_service.faults import Answer, Exchange

WEB = Destination("my-app", "web-1")
ENTITY = {"keyAttributes": {"Type": "Service", "Name": "größe"}, "attributes": {"k": "v"}}


@pytest.fixture
def service() -> Iterator[StrictService]:
    """A strict service with one stream; no test breaks a rule."""
    with StrictService() as service:
        service.create_log_stream(*WEB)
        yield service
        assert service.violations == []


@pytest.fixture
def logs(service: StrictService) -> CloudWatchLogs:
    """The service as the package sees it."""
    return CloudWatchLogs(ClientSource(service.client()))


def events(*messages: str, destination: Destination = WEB) -> list[Event]:
    """Events of this moment."""
    now = int(time.time() * 1000)
    return [encode(destination, now, message) for message in messages]


def put_until_accepted(logs: CloudWatchLogs, message: str) -> int:
    """Send one event as often as it takes; returns how often that was."""
    for attempt in range(1, 10):
        try:
            logs.put_log_events(WEB, events(message), None)
        except errors.ServiceError:
            continue
        return attempt
    raise AssertionError("never accepted")


def refusal(call: Callable[..., object], *arguments: object) -> errors.ServiceError:
    """The error that a call raises."""
    with pytest.raises(errors.ServiceError) as caught:
        call(*arguments)
    return caught.value


def authorization(service: StrictService, index: int = -1) -> str:
    """The access key with which a request was signed."""
    return service.requests[index].headers["authorization"].partition("Credential=")[2].partition("/")[0]


# What arrives


@pytest.mark.parametrize("compression", ["gzip", None])
@pytest.mark.parametrize("token", [None, "49590302938"])
@pytest.mark.parametrize("entity", [None, ENTITY])
@pytest.mark.parametrize("destination", [WEB, Destination("my-app", 'a"b\\ü€😀')])
def test_the_body_is_what_botocore_would_have_sent(
    service: StrictService, compression: Any, token: str | None, entity: Any, destination: Destination
) -> None:
    """The same parameters to the letter, compressed or not, and the signature fits."""
    if destination is not WEB:
        service.create_log_stream(*destination)
    client = service.client()
    sent = events("plain", 'qu"ote\\ \n\t\x00', "é€😀\u2028", destination=destination)
    CloudWatchLogs(ClientSource(client), compression=compression, entity=entity).put_log_events(
        destination, sent, token
    )
    client.put_log_events(
        logGroupName=destination.log_group_name,
        logStreamName=destination.log_stream_name,
        logEvents=[{"timestamp": event.timestamp, "message": event.message} for event in sent],
        **({"sequenceToken": token} if token else {}),
        **({"entity": entity} if entity else {}),
    )
    ours, botocores = service.requests
    assert ours.parameters == botocores.parameters
    assert (ours.error, botocores.error) == (None, None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(messages=st.lists(st.text(min_size=1), min_size=1))
def test_any_text_arrives(service: StrictService, logs: CloudWatchLogs, messages: list[str]) -> None:
    """In order and unchanged."""
    before = len(service.messages(*WEB))
    logs.put_log_events(WEB, events(*messages), None)
    assert service.messages(*WEB)[before:] == messages


def test_a_body_is_compressed_before_it_is_signed(service: StrictService, logs: CloudWatchLogs) -> None:
    """With the header that says so; the result knows both sizes."""
    result = logs.put_log_events(WEB, events(*["the same again"] * 1000), None)
    (request,) = service.requests
    assert request.headers["content-encoding"] == "gzip"
    assert request.body_size == int(request.headers["content-length"]) == result.bytes_sent
    assert result.bytes_sent * 10 < result.bytes_raw == len(json.dumps(request.parameters, separators=(",", ":")))


def test_a_body_is_not_compressed_where_that_is_not_wanted(service: StrictService) -> None:
    """Both sizes are one."""
    logs = CloudWatchLogs(ClientSource(service.client()), compression=None)
    result = logs.put_log_events(WEB, events("m"), None)
    (request,) = service.requests
    assert "content-encoding" not in request.headers
    assert result.bytes_raw == result.bytes_sent == request.body_size


def test_ten_thousand_events_arrive(service: StrictService, logs: CloudWatchLogs) -> None:
    """The largest batch, of all the bytes that it may have."""
    sent = events(*["x" * 78] * 9_999)
    rest = 1_048_576 - sum(event.size for event in sent) - 26
    sent += events("é" * (rest // 2) + "x" * (rest % 2))
    assert sum(event.size for event in sent) == 1_048_576
    logs.put_log_events(WEB, sorted(sent, key=lambda event: event.timestamp), None)
    assert len(service.messages(*WEB)) == 10_000


def test_an_entity_that_the_service_would_refuse_is_refused_first(service: StrictService) -> None:
    """In the constructor, before it makes every batch invalid."""
    with pytest.raises(ValueError, match=r"^entity: keyAttributes must have 2 to 4 entries, not 0$"):
        CloudWatchLogs(ClientSource(service.client()), entity={"keyAttributes": {}})


# What comes back


def test_a_result_holds_the_next_token(service: StrictService, logs: CloudWatchLogs) -> None:
    """Which is the stream's, as describing it says."""
    token, _ = logs.upload_token(WEB)
    result = logs.put_log_events(WEB, events("m"), token)
    assert result.next_token is not None
    assert logs.upload_token(WEB) == (result.next_token, 1)


def test_a_result_holds_what_was_rejected(service: StrictService, logs: CloudWatchLogs) -> None:
    """Two exclusive ends and an inclusive start, as the service gives them."""
    now, day = int(time.time() * 1000), 86_400_000
    times = [now - 15 * day, now - 15 * day, now, now + day]
    result = logs.put_log_events(WEB, [encode(WEB, at, "m") for at in times], None)
    assert (result.too_old_end, result.expired_end, result.too_new_start) == (2, 0, 3)

    service.create_log_group("short", retention_days=1)
    service.create_log_stream("short", "web-1")
    short = Destination("short", "web-1")
    result = logs.put_log_events(short, [encode(short, at, "m") for at in (now - day - 60_000, now - 120_000)], None)
    assert (result.too_old_end, result.expired_end, result.too_new_start) == (0, 1, None)


def test_nothing_rejected_is_nothing(logs: CloudWatchLogs) -> None:
    """The usual answer."""
    result = logs.put_log_events(WEB, events("m"), None)
    assert (result.too_old_end, result.expired_end, result.too_new_start) == (0, 0, None)


@dataclasses.dataclass(frozen=True)
class Says:
    """An endpoint that answers in its own way; None carries the request out first."""

    status: int = 200
    body: bytes | None = None
    content_type: str = "application/x-amz-json-1.1"

    def play(self, exchange: Exchange) -> None:
        """Answers without a request id."""
        body = exchange.carry_out().body if self.body is None else self.body
        exchange.send(Answer(self.status, body, content_type=self.content_type, request_id=False))


CALLS = {
    "PutLogEvents": lambda logs: logs.put_log_events(WEB, events("m"), None),
    "DescribeLogStreams": lambda logs: logs.upload_token(WEB),
    "CreateLogGroup": lambda logs: logs.create_log_group("new"),
    "CreateLogStream": lambda logs: logs.create_log_stream(Destination("my-app", "new")),
    "PutRetentionPolicy": lambda logs: logs.put_retention_policy("my-app", 7),
}
EACH_CALL = pytest.mark.parametrize("operation", CALLS)


@EACH_CALL
@pytest.mark.parametrize(
    "fault", [Html(), Says(body=b"", content_type="text/plain"), Says(body=b"{}", content_type="application/json")]
)
def test_an_answer_of_something_else_is_no_success(
    service: StrictService, logs: CloudWatchLogs, operation: str, fault: Fault
) -> None:
    """A proxy or a captive portal says 200 too; the service did not get it."""
    service.inject(fault, operation)
    error = refusal(CALLS[operation], logs)
    assert type(error) is errors.NotTheService
    assert (error.operation, error.may_be_stored) == (operation, False)
    assert "no x-amzn-RequestId" in str(error)


def test_the_services_json_is_a_success(service: StrictService, logs: CloudWatchLogs) -> None:
    """A compatible endpoint may leave the request id out."""
    service.inject(Says())
    logs.put_log_events(WEB, events("m"), None)
    assert service.messages(*WEB) == ["m"]


def test_an_answer_that_is_cut_short_may_mean_that_the_batch_is_stored(
    service: StrictService, logs: CloudWatchLogs
) -> None:
    """Newer versions of botocore take it for a success; older ones raise, and then it counts as a lost answer."""
    service.inject(Truncate())
    raised = None
    try:
        logs.put_log_events(WEB, events("m"), None)
    except errors.Unavailable as error:
        raised = error
    assert raised is None or raised.may_be_stored
    assert service.messages(*WEB) == ["m"]


# Errors


@EACH_CALL
@pytest.mark.parametrize(
    ("fault", "kind", "may_be_stored"),
    [
        (Error("ThrottlingException"), errors.Throttled, False),
        (Error("ServiceUnavailableException", 503), errors.Unavailable, False),
        (Error("InternalFailure", 500), errors.Unavailable, True),
        (Error("AccessDeniedException"), errors.Denied, False),
        (Error("ResourceNotFoundException"), errors.NotFound, False),
        (Error("OperationAbortedException"), errors.AlreadyExists, False),
        (Reset(), errors.Unavailable, True),
        (Says(502, b"<html>Bad gateway</html>", "text/html"), errors.Unavailable, True),
    ],
    ids=str,
)
def test_an_error_is_one_of_ours(
    service: StrictService, operation: str, fault: Fault, kind: type, may_be_stored: bool
) -> None:
    """Whichever call it is, with the operation in its text and the original as its cause."""
    logs = CloudWatchLogs(ClientSource(service.client()), compression=None)
    service.inject(fault, operation)
    error = refusal(CALLS[operation], logs)
    assert (type(error), error.operation, error.may_be_stored) == (kind, operation, may_be_stored)
    assert error.__cause__ is not None
    assert str(error).startswith(f"{operation} ")


def test_an_answer_that_botocore_cannot_read_is_one_of_ours(service: StrictService, logs: CloudWatchLogs) -> None:
    """JSON, but no object: botocore itself stumbles over it."""
    service.inject(Says(200, b'["no object"]'))
    error = refusal(logs.put_log_events, WEB, events("m"), None)
    assert (type(error), error.code, error.may_be_stored) == (errors.Unavailable, "AttributeError", True)


def test_an_answer_that_does_not_come_may_mean_a_stored_batch(service: StrictService) -> None:
    """A read time-out: the service may have seen everything."""
    logs = CloudWatchLogs(ClientSource(service.client(config=Config(read_timeout=0.2))))
    service.inject(Hang(stored=True))
    error = refusal(logs.put_log_events, WEB, events("m"), None)
    assert (type(error), error.code, error.may_be_stored) == (errors.Unavailable, "ReadTimeoutError", True)
    assert service.messages(*WEB) == ["m"]


@pytest.mark.parametrize("place", [closed_port, black_hole])
def test_a_connection_that_is_not_made_stores_nothing(service: StrictService, place: Callable[[], Any]) -> None:
    """Refused, or swallowed: nothing was sent."""
    with place() as url:
        client = service.client(endpoint_url=url, config=Config(connect_timeout=0.2))
        error = refusal(CloudWatchLogs(ClientSource(client)).put_log_events, WEB, events("m"), None)
    assert (type(error), error.may_be_stored) == (errors.Unavailable, False)


def test_a_stale_token_is_a_race() -> None:
    """With the token that the service expects instead; the same batch again is known to be stored."""
    with StrictService(enforce_tokens=True) as service:
        service.create_log_stream(*WEB)
        logs = CloudWatchLogs(ClientSource(service.client()))
        batch = events("m")
        token = logs.put_log_events(WEB, batch, None).next_token
        race = refusal(logs.put_log_events, WEB, events("other"), "stale")
        assert (type(race), race.expected_token) == (errors.WriterRace, token)  # type: ignore[attr-defined]
        accepted = refusal(logs.put_log_events, WEB, batch, None)
        assert (type(accepted), accepted.expected_token) == (  # type: ignore[attr-defined]
            errors.AlreadyAccepted,
            token,
        )


# Compression


@pytest.mark.parametrize(
    "refused", [True, Error("SerializationException", 400), Error("InvalidParameterException", 400)]
)
def test_compression_that_is_refused_ends_at_once(service: StrictService, refused: bool | Error) -> None:
    """One request more, for the first batch; none is lost, and it stays off."""
    service.refuse_gzip = refused
    logs = CloudWatchLogs(ClientSource(service.client()))
    assert [put_until_accepted(logs, message) for message in "abcd"] == [2, 1, 1, 1]
    assert service.messages(*WEB) == list("abcd")
    assert [request.gzip for request in service.requests] == [True, False, False, False, False]


def test_compression_that_a_proxy_refuses_ends_too(service: StrictService, logs: CloudWatchLogs) -> None:
    """Not the service's own 400, which would not be believed about the events."""
    service.inject(Says(400, b"bad request", "text/plain"))
    error = refusal(logs.put_log_events, WEB, events("a"), None)
    assert type(error) is errors.CompressionRefused
    assert [put_until_accepted(logs, message) for message in "abc"] == [1, 1, 1]
    assert [request.gzip for request in service.requests] == [True, False, False, False]


def test_compression_that_fails_ends_after_the_second_time(service: StrictService) -> None:
    """A 500 may be chance; at most one request more for a batch all the same."""
    service.refuse_gzip = Error("InternalFailure", 500)
    logs = CloudWatchLogs(ClientSource(service.client()))
    assert [put_until_accepted(logs, message) for message in "abcd"] == [2, 2, 1, 1]
    assert [request.gzip for request in service.requests] == [True, False, True, False, False, False]


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "AccessDeniedException", "ResourceNotFoundException", "ExpiredTokenException"]
)
def test_compression_is_not_suspected_of_everything(service: StrictService, logs: CloudWatchLogs, code: str) -> None:
    """What would come without it too."""
    service.inject(Error(code), times=3)
    assert put_until_accepted(logs, "m") == 4
    assert [request.gzip for request in service.requests] == [True] * 4


def test_compression_survives_a_poisoned_batch(service: StrictService, logs: CloudWatchLogs) -> None:
    """An event at fault is refused compressed and plain; the next batch is compressed."""
    service.poison = lambda message: message == "bad"
    kinds = [type(refusal(logs.put_log_events, WEB, events("bad"), None)) for _ in range(2)]
    assert kinds == [errors.CompressionRefused, errors.InvalidRequest]
    logs.put_log_events(WEB, events("good"), None)
    assert type(refusal(logs.put_log_events, WEB, events("bad"), None)) is errors.InvalidRequest
    assert [request.gzip for request in service.requests] == [True, False, True, True]


# Other users of the same client


def theirs(client: Any, message: str) -> None:
    """A PutLogEvents of the application's own."""
    event = {"timestamp": int(time.time() * 1000), "message": message}
    client.put_log_events(logGroupName="my-app", logStreamName="theirs", logEvents=[event])


@pytest.mark.parametrize("same_thread", [True, False])
def test_another_users_events_go_out_unchanged(service: StrictService, same_thread: bool) -> None:
    """While ours are between their making and their sending, on another thread or in a hook on this one."""
    service.create_log_stream("my-app", "theirs")
    client = service.client()
    logs = CloudWatchLogs(ClientSource(client))
    meanwhile = []

    def other_user(**_: object) -> None:
        if not meanwhile:
            meanwhile.append(True)
            if same_thread:
                theirs(client, "theirs")
            else:
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(theirs, client, "theirs").result(10)

    hook = "before-send" if same_thread else "provide-client-params"
    client.meta.events.register(f"{hook}.cloudwatch-logs.PutLogEvents", other_user)
    logs.put_log_events(WEB, events("ours"), None)
    theirs(client, "later")
    assert service.messages("my-app", "theirs") == ["theirs", "later"]
    assert service.messages(*WEB) == ["ours"]
    assert sorted(request.gzip for request in service.requests) == [False, False, True]


def test_a_failed_call_leaves_nothing_behind(service: StrictService) -> None:
    """A call that ends before its body is put in must not give it to the application's next one."""
    service.create_log_stream("my-app", "theirs")
    client = service.client()
    client.meta.events.register(
        "provide-client-params.cloudwatch-logs.PutLogEvents",
        lambda params, **_: {**params, "unknown": 1} if params["logStreamName"] == "web-1" else params,
    )
    error = refusal(CloudWatchLogs(ClientSource(client)).put_log_events, WEB, events("ours"), None)
    assert (type(error), error.code) == (errors.Denied, "ParamValidationError")
    theirs(client, "theirs")
    assert service.messages("my-app", "theirs") == ["theirs"]


def test_a_given_client_keeps_its_connection(service: StrictService) -> None:
    """The application's and ours are one, as long as it is one process."""
    client = service.client()
    client.describe_log_groups()
    CloudWatchLogs(ClientSource(client)).put_log_events(WEB, events("m"), None)
    assert len({request.peer for request in service.requests}) == 1


def test_two_handlers_share_a_client(service: StrictService) -> None:
    """Each sends its own, compressed or not."""
    client = service.client()
    first = CloudWatchLogs(ClientSource(client))
    second = CloudWatchLogs(ClientSource(client), compression=None)
    for number in range(2):
        first.put_log_events(WEB, events(f"first {number}"), None)
        second.put_log_events(WEB, events(f"second {number}"), None)
    assert service.messages(*WEB) == ["first 0", "second 0", "first 1", "second 1"]
    assert [request.gzip for request in service.requests] == [True, False, True, False]


# Describing


class Pages:
    """A double that lists streams in pages as given."""

    def __init__(self, *pages: Mapping[str, object]) -> None:
        self.pages = list(pages)
        self.calls: list[dict[str, object]] = []

    def put_log_events(self, **parameters: object) -> None:
        """What makes it a client."""

    def describe_log_streams(self, **parameters: object) -> Mapping[str, object]:
        """The next page."""
        self.calls.append(parameters)
        return self.pages[len(self.calls) - 1]


def page(start: int, following: str | None = None, *, exact: bool = False) -> dict[str, object]:
    """Fifty streams ``web-1…``, with their own tokens; with ``exact`` also ``web-1`` itself, in the middle."""
    streams = [
        {"logStreamName": f"web-1{number:03d}", "uploadSequenceToken": f"{number}"}
        for number in range(start, start + 50)
    ]
    if exact:
        streams[25] = {"logStreamName": "web-1", "uploadSequenceToken": "the one"}
    return {"logStreams": streams, **({"nextToken": following} if following else {})}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_stream_is_found_among_its_likes(position: int) -> None:
    """Exactly ``web-1`` of a hundred and fifty ``web-1…``, on whichever page; later pages are not asked for."""
    pages = Pages(*(page(50 * number, f"page {number + 1}", exact=number == position) for number in range(3)))
    assert CloudWatchLogs(ClientSource(pages)).upload_token(WEB) == ("the one", position + 1)
    names = {"logGroupName": "my-app", "logStreamNamePrefix": "web-1", "orderBy": "LogStreamName"}
    assert pages.calls[0] == names
    assert [call.get("nextToken") for call in pages.calls] == [None, "page 1", "page 2"][: position + 1]


def test_a_stream_that_is_not_there_has_no_token(service: StrictService, logs: CloudWatchLogs) -> None:
    """However many others begin like it."""
    for number in range(120):
        service.create_log_stream("my-app", f"web-2{number}")
    assert logs.upload_token(Destination("my-app", "web-2")) == (None, 3)


def test_a_new_stream_has_no_token(logs: CloudWatchLogs) -> None:
    """Nobody has written to it yet."""
    assert logs.upload_token(WEB) == (None, 1)


def test_describing_ends_where_pages_repeat() -> None:
    """An endpoint that gives the same page token again would be asked for ever."""
    pages = Pages(page(0, "again"), page(0, "again"), page(0, "again"))
    assert CloudWatchLogs(ClientSource(pages)).upload_token(WEB) == (None, 2)


def test_describing_a_missing_group_says_so(logs: CloudWatchLogs) -> None:
    """Which is not the same as a missing stream."""
    assert type(refusal(logs.upload_token, Destination("missing", "web-1"))) is errors.NotFound


# Creating


@pytest.mark.parametrize(
    ("group", "parameters"),
    [
        (None, {}),
        (GroupOptions(), {}),
        (GroupOptions(tags={}), {}),
        (
            GroupOptions(tags={"stage": "blue"}, kms_key_id="arn:aws:kms:k", log_group_class="INFREQUENT_ACCESS"),
            {"tags": {"stage": "blue"}, "kmsKeyId": "arn:aws:kms:k", "logGroupClass": "INFREQUENT_ACCESS"},
        ),
    ],
)
def test_a_group_is_created_as_configured(service: StrictService, group: GroupOptions, parameters: Any) -> None:
    """What is not configured is left to the service."""
    CloudWatchLogs(ClientSource(service.client()), group=group).create_log_group("new")
    assert service.requests[-1].parameters == {"logGroupName": "new", **parameters}


def test_a_stream_is_created_and_a_retention_set(service: StrictService, logs: CloudWatchLogs) -> None:
    """With these parameters and no others."""
    logs.create_log_stream(Destination("my-app", "new"))
    logs.put_retention_policy("my-app", 7)
    assert [(request.operation, request.parameters) for request in service.requests] == [
        ("CreateLogStream", {"logGroupName": "my-app", "logStreamName": "new"}),
        ("PutRetentionPolicy", {"logGroupName": "my-app", "retentionInDays": 7}),
    ]


@pytest.mark.parametrize(
    "call", [lambda logs: logs.create_log_group("my-app"), lambda logs: logs.create_log_stream(WEB)]
)
def test_what_exists_already_says_so(logs: CloudWatchLogs, call: Callable[[CloudWatchLogs], object]) -> None:
    """Another process was faster."""
    assert type(refusal(call, logs)) is errors.AlreadyExists


# Where clients come from


def test_a_callable_makes_the_client_at_the_first_request(service: StrictService) -> None:
    """And only once."""
    made = []

    def make() -> Any:
        made.append(service.client())
        return made[-1]

    logs = CloudWatchLogs(ClientSource(make))
    assert made == []
    logs.put_log_events(WEB, events("a"), None)
    logs.put_log_events(WEB, events("b"), None)
    assert len(made) == 1
    assert service.messages(*WEB) == ["a", "b"]


def test_a_class_is_a_callable_that_makes_a_client() -> None:
    """Although it has the client's methods itself."""
    assert type(ClientSource(Pages).make()) is Pages


def test_a_client_that_can_be_called_is_a_client() -> None:
    """A mock, say."""
    client = mock.MagicMock()
    assert ClientSource(client).make() is client


@EACH_CALL
def test_a_callable_that_fails_is_a_denial(service: StrictService, operation: str) -> None:
    """Not an exception of somebody else's in our thread; the next request tries again."""
    make = mock.Mock(side_effect=[RuntimeError("no vault"), service.client()])
    logs = CloudWatchLogs(ClientSource(lambda: make()))
    error = refusal(CALLS[operation], logs)
    assert type(error) is errors.Denied
    assert str(error) == f"{operation} was not permitted (RuntimeError: no boto3 client: no vault)"
    CALLS[operation](logs)
    assert service.count(operation) == 1


@pytest.mark.parametrize("name", ["boto3_profile_name", "region_name", "endpoint_url", "role_arn"])
def test_a_given_client_takes_no_further_settings(name: str) -> None:
    """They would have no effect, which nobody would notice."""
    with pytest.raises(ValueError, match=f"^{name} configures the client that the handler makes.*not {name}='x'$"):
        ClientSource(Pages(), **{name: "x"})


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


@pytest.fixture
def own(service: StrictService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., CloudWatchLogs]]:
    """Makes a CloudWatchLogs that makes its own client."""
    made: list[CloudWatchLogs] = []

    def make(**settings: Any) -> CloudWatchLogs:
        settings = {"endpoint_url": service.url, "region_name": "us-east-1", **settings}
        made.append(CloudWatchLogs(ClientSource(**settings)))
        return made[-1]

    yield make
    for logs in made:
        logs._connection._disconnect()


@pytest.mark.usefixtures("keys")
def test_a_client_of_ones_own_has_short_timeouts_and_no_retries() -> None:
    """A call that hangs must not hold up a process that wants to end; retrying is the handler's business."""
    client: Any = ClientSource(region_name="eu-west-1").make()
    config = client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (5.0, 10.0)
    assert config.retries == {"mode": "standard", "total_max_attempts": 1}
    assert "cloudwatch_handler" in config.user_agent
    assert (client.meta.region_name, client.meta.endpoint_url) == ("eu-west-1", "https://logs.eu-west-1.amazonaws.com")
    assert ClientSource(region_name="eu-west-1").make(attempts=3).meta.config.retries["total_max_attempts"] == 3


@pytest.mark.usefixtures("keys")
def test_the_endpoint_is_used(service: StrictService, own: Callable[..., CloudWatchLogs]) -> None:
    """A local service, say."""
    own().put_log_events(WEB, events("m"), None)
    assert service.messages(*WEB) == ["m"]


def test_a_profile_brings_its_region_and_credentials(
    service: StrictService, own: Callable[..., CloudWatchLogs], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the shared files; a region given by name counts for more."""
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    config.write_text("[profile blue]\nregion = eu-north-1\n")
    credentials.write_text("[blue]\naws_access_key_id = BLUE\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    own(boto3_profile_name="blue", region_name=None).put_log_events(WEB, events("m"), None)
    assert "Credential=BLUE/" in service.requests[-1].headers["authorization"]
    assert "/eu-north-1/logs/" in service.requests[-1].headers["authorization"]
    own(boto3_profile_name="blue", region_name="us-west-2").put_log_events(WEB, events("m"), None)
    assert "/us-west-2/logs/" in service.requests[-1].headers["authorization"]


@pytest.mark.parametrize(
    ("settings", "code", "text"),
    [
        ({"boto3_profile_name": "nope"}, "ProfileNotFound", "The config profile (nope) could not be found"),
        ({"region_name": None, "endpoint_url": None}, "NoRegionError", "You must specify a region."),
        ({"endpoint_url": "nonsense"}, "ValueError", "Invalid endpoint: nonsense"),
        ({"role_arn": "arn:aws:iam::123456789012:role/logs"}, "NoCredentialsError", "Unable to locate credentials"),
    ],
)
def test_a_client_that_cannot_be_made_is_a_denial(
    own: Callable[..., CloudWatchLogs], settings: dict[str, Any], code: str, text: str
) -> None:
    """With a text that says what is missing; a file or a variable may come."""
    error = refusal(own(**settings).put_log_events, WEB, events("m"), None)
    assert type(error) is errors.Denied
    assert str(error) == f"PutLogEvents was not permitted ({code}: no boto3 client: {text})"


def test_credentials_may_come_later(
    service: StrictService, own: Callable[..., CloudWatchLogs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role is attached or a sidecar comes up: the next attempt looks again."""
    logs = own()
    error = refusal(logs.put_log_events, WEB, events("m"), None)
    assert (type(error), error.code) == (errors.Denied, "NoCredentialsError")
    assert "Unable to locate credentials" in str(error)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    logs.put_log_events(WEB, events("m"), None)
    assert service.messages(*WEB) == ["m"]


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException"])
def test_credentials_may_be_renewed(
    service: StrictService,
    own: Callable[..., CloudWatchLogs],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    code: str,
) -> None:
    """A file that somebody rotates is read again once the service refuses what it held."""
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.write_text("[default]\naws_access_key_id = OLD\naws_secret_access_key = secret\n")
    logs = own()
    logs.put_log_events(WEB, events("a"), None)
    file.write_text("[default]\naws_access_key_id = NEW\naws_secret_access_key = secret\n")
    logs.put_log_events(WEB, events("b"), None)
    service.inject(Error(code))
    assert type(refusal(logs.put_log_events, WEB, events("c"), None)) is errors.Denied
    logs.put_log_events(WEB, events("c"), None)
    assert [authorization(service, index) for index in range(4)] == ["OLD", "OLD", "OLD", "NEW"]


def test_a_missing_permission_makes_no_new_client(service: StrictService) -> None:
    """Nothing about the client is wrong; making one costs much more than a request."""
    make = mock.Mock(side_effect=service.client)
    logs = CloudWatchLogs(ClientSource(lambda: make()))
    service.inject(Error("AccessDeniedException"), times=3)
    assert put_until_accepted(logs, "m") == 4
    assert make.call_count == 1


class Sts:
    """An AssumeRole on loopback; ``lifetime`` of what it gives in minutes, ``refusal`` an error code."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, list[str]]]] = []
        self.lifetime = 60
        self.refusal: str | None = None
        sts = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                sts.requests.append((self.headers["Authorization"], parse_qs(body)))
                status, answer = sts.answer()
                self.send_response(status)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self) -> tuple[int, str]:
        """Status and body."""
        if self.refusal:
            error = f"<Error><Type>Sender</Type><Code>{self.refusal}</Code><Message>why</Message></Error>"
            return 403, f"<ErrorResponse>{error}<RequestId>r-1</RequestId></ErrorResponse>"
        until = datetime.now(timezone.utc) + timedelta(minutes=self.lifetime)
        return 200, (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>ROLE{len(self.requests)}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>session</SessionToken><Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch, keys: None) -> Iterator[Sts]:
    """Where boto3 looks for STS."""
    sts = Sts()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    thread = threading.Thread(target=sts.server.serve_forever, args=(0.02,))
    thread.start()
    yield sts
    sts.server.shutdown()
    thread.join()
    sts.server.server_close()


ROLE = "arn:aws:iam::123456789012:role/logs"


def test_a_role_is_assumed_for_the_client(service: StrictService, own: Callable[..., CloudWatchLogs], sts: Sts) -> None:
    """Once, with the credentials there are; requests carry those of the role."""
    logs = own(role_arn=ROLE)
    assert sts.requests == []
    for message in "abc":
        logs.put_log_events(WEB, events(message), None)
    ((signature, parameters),) = sts.requests
    assert "Credential=testing/" in signature
    assert (parameters["RoleArn"], parameters["RoleSessionName"]) == ([ROLE], ["cloudwatch_handler"])
    assert {authorization(service, index) for index in range(3)} == {"ROLE1"}
    assert service.requests[0].headers["x-amz-security-token"] == "session"
    assert service.messages(*WEB) == ["a", "b", "c"]


def test_a_role_is_assumed_again_before_it_expires(
    service: StrictService, own: Callable[..., CloudWatchLogs], sts: Sts
) -> None:
    """A process may live longer than its credentials."""
    sts.lifetime = 5
    logs = own(role_arn=ROLE)
    logs.put_log_events(WEB, events("a"), None)
    logs.put_log_events(WEB, events("b"), None)
    assert [authorization(service, index) for index in range(2)] == ["ROLE1", "ROLE2"]


@pytest.mark.parametrize("code", ["AccessDenied", "ValidationError"])
def test_a_role_that_is_refused_is_a_denial(own: Callable[..., CloudWatchLogs], sts: Sts, code: str) -> None:
    """Not an invalid batch; it may be allowed later."""
    sts.refusal = code
    logs = own(role_arn=ROLE)
    error = refusal(logs.put_log_events, WEB, events("m"), None)
    assert type(error) is errors.Denied
    assert str(error) == f"PutLogEvents was not permitted ({code}: AssumeRole: why)"
    sts.refusal = None
    logs.put_log_events(WEB, events("m"), None)


def test_a_role_that_cannot_be_asked_for_is_an_outage(
    own: Callable[..., CloudWatchLogs], sts: Sts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch waits, and is not thought to be stored."""
    with closed_port() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        error = refusal(own(role_arn=ROLE).put_log_events, WEB, events("m"), None)
    assert (type(error), error.may_be_stored) == (errors.Unavailable, False)


FORK = """
import os, sys
from cloudwatch_handler.client import ClientSource, CloudWatchLogs
from cloudwatch_handler.event import Destination, encode
import boto3, time

WEB = Destination("my-app", "web-1")
client = boto3.client("logs", region_name="us-east-1", endpoint_url=sys.argv[1])
source = ClientSource(client if sys.argv[2] == "client" else lambda: client)

def put(logs, message):
    logs.put_log_events(WEB, [encode(WEB, int(time.time() * 1000), message)], None)

logs = CloudWatchLogs(source)
put(logs, "parent")
child = os.fork()
if not child:
    logs = CloudWatchLogs(source)
    put(logs, "child")
    put(logs, "child")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
put(logs, "parent")
"""


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("given", ["client", "callable"])
def test_a_forked_child_uses_no_connection_of_its_parent(service: StrictService, given: str) -> None:
    """Of a client that both have; two processes on one socket read each other's answers."""
    command = [sys.executable, "-W", "error", "-c", FORK, service.url, given]
    subprocess.run(command, check=True, timeout=60, cwd=Path(__file__).parents[1])
    assert service.messages(*WEB) == ["parent", "child", "child", "parent"]
    parent, child, again, later = [request.peer for request in service.requests]
    assert parent == later
    assert child == again != parent


# Doubles


class Double:
    """A client of the simplest kind; it returns what it is told to, or raises it."""

    def __init__(self, answer: object = None) -> None:
        self.answer = answer
        self.calls: list[dict[str, object]] = []

    def put_log_events(self, **parameters: object) -> object:
        """Remembers what it was called with."""
        self.calls.append(parameters)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def plain_call(sent: list[Event], **more: object) -> dict[str, object]:
    """What a plain PutLogEvents has for parameters."""
    plain = [{"timestamp": event.timestamp, "message": event.message} for event in sent]
    return {"logGroupName": "my-app", "logStreamName": "web-1", "logEvents": plain, **more}


@pytest.mark.parametrize("answer", [None, {}, {"nextSequenceToken": "8"}, mock.MagicMock()])
def test_a_double_gets_plain_events(answer: object) -> None:
    """And may answer anything."""
    double, sent = Double(answer), events("a", "é")
    logs = CloudWatchLogs(ClientSource(double), entity=ENTITY)  # type: ignore[arg-type]
    result = logs.put_log_events(WEB, sent, "7")
    assert double.calls == [plain_call(sent, sequenceToken="7", entity=ENTITY)]
    assert result.next_token == ("8" if isinstance(answer, dict) and answer else None)
    assert result.bytes_raw == result.bytes_sent > 0


@pytest.mark.parametrize("client", [mock.MagicMock(), mock.MagicMock(spec=["put_log_events", "meta"])])
def test_a_mock_is_a_double(client: mock.MagicMock) -> None:
    """Its attributes may have any name; none of them is botocore's."""
    sent = events("m")
    CloudWatchLogs(ClientSource(client)).put_log_events(WEB, sent, None)
    client.put_log_events.assert_called_once_with(**plain_call(sent))


def test_a_wrapper_of_a_client_is_a_double(service: StrictService) -> None:
    """What it does with the events is its own affair, so it gets them all."""

    class Wrapper:
        def __init__(self, client: Any) -> None:
            self.client, self.meta, self.seen = client, client.meta, []

        def put_log_events(self, **parameters: Any) -> Any:
            self.seen += parameters["logEvents"]
            return self.client.put_log_events(**parameters)

    wrapper = Wrapper(service.client())
    CloudWatchLogs(ClientSource(wrapper)).put_log_events(WEB, events("a", "b"), None)  # type: ignore[arg-type]
    assert [event["message"] for event in wrapper.seen] == service.messages(*WEB) == ["a", "b"]


def test_a_patched_method_gets_plain_events(service: StrictService) -> None:
    """On a real client, as tests of applications do it; afterwards all is as before."""
    client, sent = service.client(), events("m")
    logs = CloudWatchLogs(ClientSource(client))
    with mock.patch.object(client, "put_log_events", return_value={}) as patched:
        logs.put_log_events(WEB, sent, None)
    patched.assert_called_once_with(**plain_call(sent))
    with mock.patch.object(botocore.client.BaseClient, "_make_api_call", return_value={}) as patched:
        logs.put_log_events(WEB, sent, None)
    patched.assert_called_once_with("PutLogEvents", plain_call(sent))
    logs.put_log_events(WEB, events("real"), None)
    assert service.messages(*WEB) == ["real"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ClientError({"Error": {"Code": "InvalidParameterException"}}, "PutLogEvents"), errors.InvalidRequest),
        (
            ClientError(
                {"Error": {"Code": "SerializationException"}, "ResponseMetadata": {"HTTPStatusCode": 400}},
                "PutLogEvents",
            ),
            errors.InvalidRequest,
        ),
        (RuntimeError("boom"), errors.Unavailable),
    ],
)
def test_a_doubles_error_is_one_of_ours(error: Exception, kind: type) -> None:
    """Nothing was compressed, so nothing is blamed on that."""
    logs = CloudWatchLogs(ClientSource(Double(error)))  # type: ignore[arg-type]
    assert type(refusal(logs.put_log_events, WEB, events("m"), None)) is kind


def test_botocores_stubber_works(service: StrictService) -> None:
    """An answer that never was on a wire has no headers, and counts."""
    client = service.client()
    logs = CloudWatchLogs(ClientSource(client))
    with Stubber(client) as stubber:
        expected = {"logGroupName": "my-app", "logStreamName": "web-1", "logEvents": ANY}
        stubber.add_response("put_log_events", {"nextSequenceToken": "8"}, expected)
        stubber.add_client_error("put_log_events", "ThrottlingException", http_status_code=400)
        stubber.add_response("describe_log_streams", {"logStreams": []})
        assert logs.put_log_events(WEB, events("m"), None).next_token == "8"
        assert type(refusal(logs.put_log_events, WEB, events("m"), None)) is errors.Throttled
        assert logs.upload_token(WEB) == (None, 1)
        stubber.assert_no_pending_responses()
    assert service.requests == []


def test_moto_works() -> None:
    """Within the process, compressed bodies included."""
    with mock_aws():
        logs = CloudWatchLogs(ClientSource(region_name="us-east-1"), group=GroupOptions(tags={"stage": "blue"}))
        assert type(refusal(logs.put_log_events, WEB, events("m"), None)) is errors.NotFound
        logs.create_log_group("my-app")
        logs.create_log_stream(WEB)
        assert type(refusal(logs.create_log_stream, WEB)) is errors.AlreadyExists
        logs.put_log_events(WEB, events("a", "é€😀"), None)
        client = boto3.client("logs", region_name="us-east-1")
        stored = client.get_log_events(logGroupName="my-app", logStreamName="web-1", startFromHead=True)["events"]
    assert [event["message"] for event in stored] == ["a", "é€😀"]
