"""What CloudWatch Logs promises, held against the strict local service, moto and, opt-in, AWS.

One suite verifies the fake: where moto deviates from the service, the test is a strict xfail for
moto alone. AWS joins in when CLOUDWATCH_HANDLER_TEST_AWS is set; it needs credentials, a region,
and leaves nothing behind.
"""

from __future__ import annotations

import gzip
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from tests.strict_service import StrictService

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS
# For ages: what passes between making a batch and its arrival.
SLACK_MS = 60_000
AWS = "CLOUDWATCH_HANDLER_TEST_AWS"
UNCHECKED = Config(parameter_validation=False, retries={"total_max_attempts": 1})


def service(moto_deviates: str | None = None) -> pytest.MarkDecorator:
    """Runs a test against each service; a reason makes it a strict xfail for moto."""
    xfail = pytest.mark.xfail(
        strict=True,
        reason=f"moto {moto_deviates}",
        raises=(AssertionError, ClientError, pytest.fail.Exception),
    )
    return pytest.mark.parametrize(
        "logs",
        [
            "strict",
            pytest.param("moto", marks=[xfail] if moto_deviates else []),
            pytest.param("aws", marks=pytest.mark.skipif(AWS not in os.environ, reason=AWS)),
        ],
        indirect=True,
    )


@dataclass
class Logs:
    """A client, a group and a stream of its own; ``patience`` is seconds until events show."""

    client: Any
    patience: float = 0.0
    group: str = field(default_factory=lambda: f"contract-{uuid.uuid4().hex}")
    stream: str = "web-1"
    now: int = field(default_factory=lambda: int(time.time() * 1000))

    def put(self, *events: tuple[int, str], **parameters: Any) -> dict[str, Any]:
        """Sends (milliseconds from now, message) as one batch."""
        batch = [{"timestamp": self.now + at, "message": message} for at, message in events]
        names = {"logGroupName": self.group, "logStreamName": self.stream}
        return dict(self.client.put_log_events(**names | {"logEvents": batch} | parameters))

    def get(self, **parameters: Any) -> dict[str, Any]:
        """One page of GetLogEvents, from the head unless said otherwise."""
        names = {"logGroupName": self.group, "logStreamName": self.stream, "startFromHead": True}
        return dict(self.client.get_log_events(**names | parameters))

    def get_all(self, **parameters: Any) -> list[str]:
        """The messages of every page, up to the token that equals the one sent."""
        messages, sent = [], None
        while True:
            page = self.get(**parameters, **({"nextToken": sent} if sent else {}))
            messages += [event["message"] for event in page["events"]]
            if page["nextForwardToken"] == sent:
                return messages
            sent = page["nextForwardToken"]

    def filter(self, **parameters: Any) -> list[dict[str, Any]]:
        """The events of every page of FilterLogEvents."""
        pages = self.client.get_paginator("filter_log_events")
        found = pages.paginate(logGroupName=self.group, **parameters)
        return [event for page in found for event in page["events"]]

    def settle(self, count: int) -> None:
        """Waits until that many events can be read; only AWS needs time for it."""
        deadline = time.monotonic() + self.patience
        while len(self.get_all()) < count and time.monotonic() < deadline:
            threading.Event().wait(2)


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    """The URL of moto's server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def logs(request: pytest.FixtureRequest) -> Iterator[Logs]:
    """A service with a fresh group and stream in it."""
    strict = None
    if request.param == "aws":
        logs = Logs(boto3.client("logs", config=UNCHECKED), patience=120.0)
    else:
        strict = StrictService()
        url = strict.url if request.param == "strict" else request.getfixturevalue("moto_url")
        logs = Logs(strict.client(endpoint_url=url, config=UNCHECKED))
    logs.client.create_log_group(logGroupName=logs.group)
    logs.client.create_log_stream(logGroupName=logs.group, logStreamName=logs.stream)
    yield logs
    with suppress(logs.client.exceptions.ResourceNotFoundException):  # the test deleted it
        logs.client.delete_log_group(logGroupName=logs.group)
    if strict is not None:
        strict.close()
    else:
        logs.client.close()


def refusal(call: Callable[..., object], *args: Any, **parameters: Any) -> str:
    """The code of the error that the call raises."""
    with pytest.raises(ClientError) as caught:
        call(*args, **parameters)
    return str(caught.value.response["Error"]["Code"])


# Writing


@service()
def test_stored_events_come_back_in_order_of_time(logs: Logs) -> None:
    """Batches may come in any order; a read is by timestamp, with an ingestion time."""
    logs.put((0, "third"))
    logs.put((-2, "first"), (-1, "second"))
    logs.settle(3)
    assert logs.get_all() == ["first", "second", "third"]
    assert logs.get()["events"][0]["ingestionTime"] >= logs.now - SLACK_MS


@service()
def test_an_answer_carries_a_request_id(logs: Logs) -> None:
    """``x-amzn-RequestId`` tells the service's answer from a proxy's."""
    assert "x-amzn-requestid" in logs.put((0, "m"))["ResponseMetadata"]["HTTPHeaders"]


@service()
def test_a_compressed_body_is_accepted(logs: Logs) -> None:
    """Content-Encoding gzip, compressed before signing, stores the same events."""

    def compress(params: dict[str, Any], **_: object) -> None:
        params["body"] = gzip.compress(params["body"])
        params["headers"]["Content-Encoding"] = "gzip"

    logs.client.meta.events.register("before-call.cloudwatch-logs.PutLogEvents", compress)
    logs.put((0, "gr\u00fc\u00dfe"))
    logs.settle(1)
    assert logs.get_all() == ["gr\u00fc\u00dfe"]


@service()
def test_ten_thousand_events_are_accepted(logs: Logs) -> None:
    """The largest count of one batch."""
    assert "rejectedLogEventsInfo" not in logs.put(*[(0, "m")] * 10_000)


@service(moto_deviates="accepts 10,001 events")
def test_ten_thousand_and_one_events_are_refused(logs: Logs) -> None:
    """One event more than the largest batch."""
    assert refusal(logs.put, *[(0, "m")] * 10_001) == "InvalidParameterException"


@service(moto_deviates="accepts a batch without events")
def test_a_batch_without_events_is_refused(logs: Logs) -> None:
    """The smallest batch has one event."""
    assert refusal(logs.put) == "InvalidParameterException"


def batch_of_bytes(character: str, total: int) -> list[tuple[int, str]]:
    """Two events whose sizes, overhead included, add up to that many bytes."""
    half = character * 1000
    rest = total - len(half.encode()) - 2 * 26
    count, filler = divmod(rest, len(character.encode()))
    return [(0, half), (0, character * count + "x" * filler)]


CHARACTERS = pytest.mark.parametrize("character", ["a", "\u00e9", "\u20ac", "\U0001f600", '"', "\n"])


@CHARACTERS
@service()
def test_a_batch_of_the_full_size_is_accepted(logs: Logs, character: str) -> None:
    """1,048,576 bytes of UTF-8 and overhead; JSON escaping does not count."""
    assert "rejectedLogEventsInfo" not in logs.put(*batch_of_bytes(character, 1_048_576))


@CHARACTERS
@service(moto_deviates="accepts batches of any size")
def test_a_batch_one_byte_over_is_refused(logs: Logs, character: str) -> None:
    """1,048,577 bytes."""
    batch = batch_of_bytes(character, 1_048_577)
    assert refusal(logs.put, *batch) == "InvalidParameterException"


@service()
def test_a_message_of_the_full_size_is_accepted(logs: Logs) -> None:
    """1,048,550 bytes and 26 of overhead are 1 MB."""
    assert "rejectedLogEventsInfo" not in logs.put((0, "m" * 1_048_550))


@service(moto_deviates="accepts events of any size")
def test_a_message_one_byte_over_is_refused(logs: Logs) -> None:
    """1,048,551 bytes."""
    assert refusal(logs.put, (0, "m" * 1_048_551)) == "InvalidParameterException"


@service(moto_deviates="accepts empty messages")
def test_an_empty_message_refuses_the_whole_batch(logs: Logs) -> None:
    """A message has at least one character."""
    assert refusal(logs.put, (0, "m"), (0, "")) == "InvalidParameterException"


@service()
def test_events_out_of_order_refuse_the_whole_batch(logs: Logs) -> None:
    """Inside a batch time never goes back."""
    assert refusal(logs.put, (1, "m"), (0, "m")) == "InvalidParameterException"


@service()
def test_events_of_one_instant_are_accepted(logs: Logs) -> None:
    """Equal timestamps are in order."""
    logs.put((0, "a"), (0, "b"))
    logs.settle(2)
    assert logs.get_all() == ["a", "b"]


@service()
def test_a_span_of_24_hours_is_accepted(logs: Logs) -> None:
    """The longest span of one batch."""
    assert "rejectedLogEventsInfo" not in logs.put((-DAY_MS, "a"), (0, "b"))


@service(moto_deviates="accepts any span")
def test_a_longer_span_is_refused(logs: Logs) -> None:
    """24 hours and a millisecond."""
    assert refusal(logs.put, (-DAY_MS - 1, "a"), (0, "b")) == "InvalidParameterException"


OLD, NEW = -14 * DAY_MS - SLACK_MS, 2 * HOUR_MS + SLACK_MS


@service(moto_deviates="gives the last index that is too old, and the last that is too new")
@pytest.mark.parametrize(
    ("offsets", "rejected"),
    [
        ([OLD, 0], {"tooOldLogEventEndIndex": 1}),
        ([OLD, OLD, 0], {"tooOldLogEventEndIndex": 2}),
        ([0, 0, NEW, NEW], {"tooNewLogEventStartIndex": 2}),
        ([OLD, 0, NEW], {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2}),
    ],
)
def test_events_out_of_range_are_rejected_by_index(logs: Logs, offsets: list[int], rejected: dict[str, int]) -> None:
    """An exclusive end for too old, an inclusive start for too new; the rest is stored."""
    answer = logs.put(*[(at, str(at)) for at in offsets])
    assert answer["rejectedLogEventsInfo"] == rejected
    logs.settle(offsets.count(0))
    assert logs.get_all() == ["0"] * offsets.count(0)


@service()
def test_one_event_too_new_is_rejected_by_index(logs: Logs) -> None:
    """The start of what is too new is inclusive."""
    answer = logs.put((0, "kept"), (NEW, "too new"))
    assert answer["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 1}


@service()
def test_events_just_inside_the_range_are_accepted(logs: Logs) -> None:
    """Nearly 14 days ago and nearly 2 hours ahead."""
    assert "rejectedLogEventsInfo" not in logs.put((OLD + 2 * SLACK_MS, "a"))
    assert "rejectedLogEventsInfo" not in logs.put((NEW - 2 * SLACK_MS, "b"))


@service(moto_deviates="knows no expiry")
def test_events_past_the_retention_are_rejected_by_index(logs: Logs) -> None:
    """The end of what the group's retention has expired is exclusive."""
    logs.client.put_retention_policy(logGroupName=logs.group, retentionInDays=1)
    answer = logs.put((-DAY_MS - SLACK_MS, "expired"), (-DAY_MS + SLACK_MS, "kept"))
    assert answer.get("rejectedLogEventsInfo") == {"expiredLogEventEndIndex": 1}


@service()
def test_any_upload_token_is_ignored(logs: Logs) -> None:
    """Since January 2023 nobody enforces upload tokens, and parallel puts are fine."""
    logs.put((0, "a"))
    logs.put((0, "b"), sequenceToken="made-up")
    logs.settle(2)
    assert logs.get_all() == ["a", "b"]


@service()
@pytest.mark.parametrize("name", ["logGroupName", "logStreamName"])
def test_a_put_needs_its_group_and_stream(logs: Logs, name: str) -> None:
    """Neither is made by a put."""
    assert refusal(logs.put, (0, "m"), **{name: "missing"}) == "ResourceNotFoundException"


def raw_body(logs: Logs, body: bytes) -> None:
    """Makes the next PutLogEvents send these bytes."""

    def replace(params: dict[str, Any], **_: object) -> None:
        params["body"] = body

    logs.client.meta.events.register("before-call.cloudwatch-logs.PutLogEvents", replace)


@service(moto_deviates="fails with an internal error")
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"logGroupName": "g"', "SerializationException"),
        (b'{"logGroupName": "g", "logStreamName": "s", "logEvents": 1}', "SerializationException"),
        (b'{"logGroupName": "g", "logStreamName": "s"}', "InvalidParameterException"),
        (
            b'{"logGroupName": "g", "logStreamName": "s", "logEvents": [{"timestamp": 1}]}',
            "InvalidParameterException",
        ),
    ],
)
def test_a_body_of_the_wrong_form_is_refused(logs: Logs, body: bytes, code: str) -> None:
    """Broken JSON and wrong types are serialization errors, a missing member is invalid."""
    raw_body(logs, body)
    assert refusal(logs.put, (0, "m")) == code


# Groups and streams


@service()
def test_creating_a_group_or_stream_again_says_that_it_exists(logs: Logs) -> None:
    """Another process may have been quicker."""
    names = {"logGroupName": logs.group, "logStreamName": logs.stream}
    again = "ResourceAlreadyExistsException"
    assert refusal(logs.client.create_log_group, logGroupName=logs.group) == again
    assert refusal(logs.client.create_log_stream, **names) == again


@service()
def test_a_deleted_stream_and_group_are_missing(logs: Logs) -> None:
    """What was deleted while a writer runs gets ResourceNotFoundException."""
    missing = "ResourceNotFoundException"
    logs.client.delete_log_stream(logGroupName=logs.group, logStreamName=logs.stream)
    assert refusal(logs.put, (0, "m")) == missing
    logs.client.delete_log_group(logGroupName=logs.group)
    assert refusal(logs.put, (0, "m")) == missing
    assert refusal(logs.client.describe_log_streams, logGroupName=logs.group) == missing


@service(moto_deviates="looks at the first character alone, where there is one")
@pytest.mark.parametrize("name", ["", "a b", "a:b", "a*b"])
def test_a_group_name_outside_the_pattern_is_refused(logs: Logs, name: str) -> None:
    """At least one of letters, digits and ``. - _ / #``."""
    code = refusal(logs.client.create_log_group, logGroupName=name)
    assert code == "InvalidParameterException"


@service()
def test_a_group_name_has_up_to_512_characters(logs: Logs) -> None:
    """512 are accepted, 513 are not."""
    longest = logs.group.ljust(512, "x")
    logs.client.create_log_group(logGroupName=longest)
    logs.client.delete_log_group(logGroupName=longest)
    code = refusal(logs.client.create_log_group, logGroupName=f"{longest}x")
    assert code == "InvalidParameterException"


@service(moto_deviates="has no reserved names")
def test_a_group_name_of_aws_itself_is_refused(logs: Logs) -> None:
    """Names that start with ``aws/`` are reserved."""
    code = refusal(logs.client.create_log_group, logGroupName="aws/group")
    assert code == "InvalidParameterException"


@service(moto_deviates="accepts any stream name")
@pytest.mark.parametrize("name", ["", "a:b", "a*b"])
def test_a_stream_name_outside_the_pattern_is_refused(logs: Logs, name: str) -> None:
    """At least one character, and neither ``:`` nor ``*``."""
    create = logs.client.create_log_stream
    code = refusal(create, logGroupName=logs.group, logStreamName=name)
    assert code == "InvalidParameterException"


@service()
def test_a_stream_name_of_512_characters_is_accepted(logs: Logs) -> None:
    """Spaces and letters of any script belong to a name."""
    name = "\u00e9 " * 256
    logs.client.create_log_stream(logGroupName=logs.group, logStreamName=name)
    logs.put((0, "m"), logStreamName=name)


@service(moto_deviates="accepts any stream name")
def test_a_stream_name_of_513_characters_is_refused(logs: Logs) -> None:
    """One character too many."""
    create = logs.client.create_log_stream
    code = refusal(create, logGroupName=logs.group, logStreamName="s" * 513)
    assert code == "InvalidParameterException"


@service()
def test_a_group_shows_its_retention_and_tags(logs: Logs) -> None:
    """What a group was given comes back."""
    name = f"{logs.group}/tagged"
    logs.client.create_log_group(logGroupName=name, tags={"team": "a"})
    logs.client.put_retention_policy(logGroupName=name, retentionInDays=7)
    (found,) = logs.client.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    arn = found["arn"].removesuffix(":*")
    logs.client.tag_resource(resourceArn=arn, tags={"stage": "test"})
    tags = logs.client.list_tags_for_resource(resourceArn=arn)["tags"]
    logs.client.delete_log_group(logGroupName=name)
    assert (found["retentionInDays"], tags) == (7, {"team": "a", "stage": "test"})


@service(moto_deviates="knows no classes")
def test_a_group_shows_its_class(logs: Logs) -> None:
    """STANDARD, unless it was made with another one."""
    name = f"{logs.group}/rare"
    logs.client.create_log_group(logGroupName=name, logGroupClass="INFREQUENT_ACCESS")
    found = logs.client.describe_log_groups(logGroupNamePrefix=logs.group)["logGroups"]
    logs.client.delete_log_group(logGroupName=name)
    classes = [group.get("logGroupClass") for group in found]
    assert classes == ["STANDARD", "INFREQUENT_ACCESS"]


@service(moto_deviates="accepts any number of days")
@pytest.mark.parametrize("days", [0, 2, 15, 3654])
def test_a_retention_that_is_not_offered_is_refused(logs: Logs, days: int) -> None:
    """Retention comes in fixed steps."""
    put = logs.client.put_retention_policy
    code = refusal(put, logGroupName=logs.group, retentionInDays=days)
    assert code == "InvalidParameterException"


@service()
def test_streams_are_described_by_prefix_fifty_a_page(logs: Logs) -> None:
    """``web-1`` also lists ``web-10`` and ``web-11``, and the wanted one may be on a later page."""
    for number in range(2, 53):
        logs.client.create_log_stream(logGroupName=logs.group, logStreamName=f"web-1{number:02}")
    logs.client.create_log_stream(logGroupName=logs.group, logStreamName="db-1")
    pages = logs.client.get_paginator("describe_log_streams").paginate(
        logGroupName=logs.group, logStreamNamePrefix="web-1"
    )
    names = [[stream["logStreamName"] for stream in page["logStreams"]] for page in pages]
    assert [len(page) for page in names] == [50, 2]
    assert [name for page in names for name in page] == ["web-1"] + [f"web-1{number:02}" for number in range(2, 53)]


@service()
def test_a_page_of_more_than_fifty_streams_is_refused(logs: Logs) -> None:
    """The limit goes from 1 to 50."""
    describe = logs.client.describe_log_streams
    assert refusal(describe, logGroupName=logs.group, limit=51) == "InvalidParameterException"


@service()
def test_a_new_stream_has_no_upload_token(logs: Logs) -> None:
    """``uploadSequenceToken`` is absent until something was put."""
    (stream,) = logs.client.describe_log_streams(logGroupName=logs.group)["logStreams"]
    assert "uploadSequenceToken" not in stream
    assert "lastEventTimestamp" not in stream


# Reading


@service()
def test_a_forward_read_ends_with_the_token_that_was_sent(logs: Logs) -> None:
    """The first call has nothing to compare with; the last page repeats the token."""
    logs.put((0, "a"))
    logs.settle(1)
    first = logs.get(endTime=logs.now + 1)
    last = logs.get(endTime=logs.now + 1, nextToken=first["nextForwardToken"])
    assert [event["message"] for event in first["events"]] == ["a"]
    assert (last["events"], last["nextForwardToken"]) == ([], first["nextForwardToken"])


@service()
def test_tokens_of_an_empty_stream_are_not_null(logs: Logs) -> None:
    """Both tokens are there although there is nothing."""
    page = logs.get()
    assert page["events"] == []
    assert page["nextForwardToken"]
    assert page["nextBackwardToken"]


@service()
def test_following_a_token_finds_what_came_later(logs: Logs) -> None:
    """The token of the end goes on once there is more."""
    logs.put((0, "a"))
    logs.settle(1)
    token = logs.get()["nextForwardToken"]
    logs.put((1, "b"))
    logs.settle(2)
    assert [event["message"] for event in logs.get(nextToken=token)["events"]] == ["b"]


@service(moto_deviates="starts the next page behind an index, and returns an event twice")
def test_an_older_event_lies_behind_the_token(logs: Logs) -> None:
    """A token is a position in event time; what comes late with an older time is not returned."""
    logs.put((0, "a"))
    logs.settle(1)
    token = logs.get()["nextForwardToken"]
    logs.put((-1, "older"))
    logs.settle(2)
    assert logs.get(nextToken=token)["events"] == []


@service()
def test_start_time_is_inclusive(logs: Logs) -> None:
    """An event at the very start belongs to the range."""
    logs.put((0, "a"), (1, "b"), (2, "c"))
    logs.settle(3)
    assert logs.get_all(startTime=logs.now + 1) == ["b", "c"]
    assert [e["message"] for e in logs.filter(startTime=logs.now + 1)] == ["b", "c"]


@service(moto_deviates="includes the end")
def test_end_time_of_one_stream_is_exclusive(logs: Logs) -> None:
    """GetLogEvents leaves out an event at the very end."""
    logs.put((0, "a"), (1, "b"), (2, "c"))
    logs.settle(3)
    assert logs.get_all(endTime=logs.now + 1) == ["a"]


@service()
def test_end_time_of_a_group_is_inclusive(logs: Logs) -> None:
    """FilterLogEvents returns an event at the very end."""
    logs.put((0, "a"), (1, "b"), (2, "c"))
    logs.settle(3)
    assert [event["message"] for event in logs.filter(endTime=logs.now + 1)] == ["a", "b"]


@service()
def test_pages_hold_no_more_than_their_limit(logs: Logs) -> None:
    """A limit cuts pages, and nothing is lost or repeated between them."""
    logs.put(*[(number, str(number)) for number in range(5)])
    logs.settle(5)
    assert logs.get_all(limit=2) == ["0", "1", "2", "3", "4"]
    assert len(logs.get(limit=2)["events"]) == 2
    filtered = logs.filter(PaginationConfig={"PageSize": 2})
    assert [event["message"] for event in filtered] == ["0", "1", "2", "3", "4"]


@service()
def test_a_backward_read_begins_with_the_newest_page(logs: Logs) -> None:
    """Without ``startFromHead`` the newest come first, oldest first inside a page."""
    logs.put(*[(number, str(number)) for number in range(5)])
    logs.settle(5)
    newest = logs.get(startFromHead=False, limit=2)
    older = logs.get(startFromHead=False, limit=2, nextToken=newest["nextBackwardToken"])
    assert [event["message"] for event in newest["events"]] == ["3", "4"]
    assert [event["message"] for event in older["events"]] == ["1", "2"]


@service(moto_deviates="fills a page by count alone")
def test_a_page_has_at_most_a_megabyte(logs: Logs) -> None:
    """Two batches of the full size do not come in one page."""
    logs.put((0, "a" * 1_000_000))
    logs.put((1, "b" * 1_000_000))
    logs.settle(2)
    assert len(logs.get()["events"]) <= 1
    assert len(logs.get_all()) == 2


@service()
def test_a_group_is_read_across_its_streams_with_unique_ids(logs: Logs) -> None:
    """FilterLogEvents interleaves streams in order of time; each event has its own id."""
    logs.put((0, "a"), (2, "c"), (3, "d"))
    logs.client.create_log_stream(logGroupName=logs.group, logStreamName="db-1")
    logs.put((1, "b"), (3, "d"), logStreamName="db-1")
    logs.settle(3)
    found = logs.filter(interleaved=True)
    assert [event["message"] for event in found] == ["a", "b", "c", "d", "d"]
    assert [event["logStreamName"] for event in found[:3]] == ["web-1", "db-1", "web-1"]
    assert len({event["eventId"] for event in found}) == 5


def three_streams(logs: Logs) -> None:
    """Puts one event of its name into web-1, web-10 and db-1."""
    for stream in ("web-1", "web-10", "db-1"):
        if stream != logs.stream:
            logs.client.create_log_stream(logGroupName=logs.group, logStreamName=stream)
        logs.put((0, stream), logStreamName=stream)
    logs.settle(1)


@service()
def test_a_group_can_be_read_by_stream_names(logs: Logs) -> None:
    """Only the streams named are read."""
    three_streams(logs)
    found = logs.filter(logStreamNames=["web-1", "db-1"])
    assert {event["message"] for event in found} == {"web-1", "db-1"}


@service(moto_deviates="ignores prefixes")
def test_a_group_can_be_read_by_prefix_of_streams(logs: Logs) -> None:
    """The prefix ``web-1`` takes ``web-10`` too."""
    three_streams(logs)
    found = logs.filter(logStreamNamePrefix="web-1")
    assert {event["message"] for event in found} == {"web-1", "web-10"}


@service(moto_deviates="accepts both")
def test_stream_names_and_a_prefix_exclude_each_other(logs: Logs) -> None:
    """One or the other."""
    code = refusal(logs.filter, logStreamNames=["web-1"], logStreamNamePrefix="web")
    assert code == "InvalidParameterException"


@service()
@pytest.mark.parametrize(
    ("pattern", "messages"),
    [
        ("", ["error one", "error two", "done"]),
        ("error", ["error one", "error two"]),
        ("error two", ["error two"]),
        ('"error one"', ["error one"]),
    ],
)
def test_a_filter_pattern_selects_messages(logs: Logs, pattern: str, messages: list[str]) -> None:
    """Every term must be there; a quoted phrase must be there as it is."""
    logs.put((0, "error one"), (1, "error two"), (2, "done"))
    logs.settle(3)
    assert [event["message"] for event in logs.filter(filterPattern=pattern)] == messages


@service()
def test_reading_what_is_missing_says_so(logs: Logs) -> None:
    """A missing group or stream gets ResourceNotFoundException."""
    assert refusal(logs.get, logStreamName="missing") == "ResourceNotFoundException"
    assert refusal(logs.get, logGroupName="missing") == "ResourceNotFoundException"
    missing = refusal(logs.client.filter_log_events, logGroupName="missing")
    assert missing == "ResourceNotFoundException"


@service()
def test_a_page_token_that_was_never_issued_is_refused(logs: Logs) -> None:
    """Tokens are not made up by the client."""
    assert refusal(logs.get, nextToken="made-up") == "InvalidParameterException"
