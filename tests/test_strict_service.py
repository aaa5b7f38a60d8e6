"""The strict service itself: its limits are the model's, each rule is exact, each fault is real."""

from __future__ import annotations

import gzip
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from tests.service_model import CURRENT, MODEL, prose
from tests.strict_service import (
    Delay,
    Error,
    Hang,
    Hold,
    Html,
    Reset,
    StrictService,
    Truncate,
    black_hole,
    closed_port,
    free_port,
    rules,
)
from tests.strict_service.account import DESCRIBE_PAGE
from tests.strict_service.paging import MAX_PAGE_BYTES, compile_pattern
from tests.strict_service.shapes import SHAPES, STRUCTURES, Refused

KINDS = {
    "string": str,
    "integer": int,
    "long": int,
    "boolean": bool,
    "list": list,
    "map": dict,
}
UNCHECKED = Config(parameter_validation=False)
NAMES = {"logGroupName": "group", "logStreamName": "stream"}
SECOND, HOUR, DAY = 1000, 3_600_000, 86_400_000


class Clock:
    """Seconds since the epoch, set by the test."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    @property
    def ms(self) -> int:
        """The same in milliseconds."""
        return int(self.now * 1000)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def service(clock: Clock) -> Iterator[StrictService]:
    """A service with one stream, on the test's clock."""
    with StrictService(clock=clock) as service:
        service.create_log_stream("group", "stream")
        yield service


def put(client: Any, *events: tuple[int, str], **parameters: Any) -> dict[str, Any]:
    """Sends (timestamp, message) as one batch."""
    batch = [{"timestamp": timestamp, "message": message} for timestamp, message in events]
    return dict(client.put_log_events(**NAMES, logEvents=batch, **parameters))


def refusal(error: pytest.ExceptionInfo[ClientError]) -> str:
    """The code of the error."""
    return str(error.value.response["Error"]["Code"])


# The model


@CURRENT
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_shape_is_the_models(name: str) -> None:
    """Type, bounds, pattern, choices and members are what botocore's model states."""
    ours, model = SHAPES[name], MODEL["shapes"][name]
    assert ours.kind is KINDS[model["type"]]
    assert (ours.least, ours.most) == (model.get("min"), model.get("max"))
    assert (ours.pattern, ours.choices) == (model.get("pattern"), tuple(model.get("enum", ())))
    members = [model[part]["shape"] for part in ("member", "key", "value") if part in model]
    assert list(ours.of) == (members if name != "InputLogEvents" else [])


@CURRENT
@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_a_request_has_the_models_members(name: str) -> None:
    """Neither a parameter nor a requirement is missing or made up."""
    ours, model = STRUCTURES[name], MODEL["shapes"][name]
    assert ours.members == {key: value["shape"] for key, value in model["members"].items()}
    assert ours.required == set(model.get("required", ()))


def test_an_event_has_the_models_members() -> None:
    """The cheap path for events knows the two members of the model, and their bounds."""
    event = MODEL["shapes"]["InputLogEvent"]
    assert set(event["members"]) == {"timestamp", "message"}
    assert set(event["required"]) == {"timestamp", "message"}
    assert MODEL["shapes"]["Timestamp"]["min"] == 0
    assert MODEL["shapes"]["EventMessage"]["min"] == 1


@CURRENT
@pytest.mark.parametrize(
    "sentence",
    [
        f"The maximum batch size is {rules.MAX_BATCH_BYTES:,} bytes",
        f"plus {rules.EVENT_OVERHEAD_BYTES} bytes for each log event",
        f"no larger than {rules.MAX_EVENT_BYTES // 2**20} MB",
        f"maximum number of log events in a batch is {SHAPES['InputLogEvents'].most:,}",
        f"older than {rules.MAX_AGE_MS // DAY} days",
        f"more than {rules.MAX_AHEAD_MS // HOUR} hours in the future",
        f"cannot exceed {rules.MAX_SPAN_MS // HOUR} hours",
    ],
)
def test_a_limit_of_put_is_the_documented_one(sentence: str) -> None:
    """What the model says in prose only is compared with the prose."""
    assert sentence in prose("PutLogEvents")


@CURRENT
def test_retention_days_are_the_documented_ones() -> None:
    """The list stands in the documentation of the parameter's shape."""
    text = MODEL["shapes"]["Days"]["documentation"]
    listed = text[text.index("Possible values") : text.index("To set")]
    assert {int(number) for number in re.findall(r"\d+", listed)} == rules.RETENTION_DAYS


@CURRENT
def test_other_limits_are_the_documented_ones() -> None:
    """Pages, tags, and the reserved prefix."""
    assert f"up to {MAX_PAGE_BYTES // 2**20} MB of log events" in prose("GetLogEvents")
    assert SHAPES["DescribeLimit"].most == DESCRIBE_PAGE
    assert SHAPES["Tags"].most == rules.MAX_TAGS
    assert f"can't start with the string {rules.RESERVED_PREFIX}" in prose("CreateLogGroup")


# Writing


def batch(*messages: str, timestamps: list[int] | None = None) -> list[dict[str, Any]]:
    """Events as they stand in a request."""
    times = timestamps or [0] * len(messages)
    return [{"timestamp": timestamp, "message": message} for timestamp, message in zip(times, messages, strict=True)]


FULL = rules.MAX_EVENT_BYTES - rules.EVENT_OVERHEAD_BYTES


@pytest.mark.parametrize("character", ["a", "\u00e9", "\u20ac", "\U0001f600"])
@pytest.mark.parametrize(("surplus", "legal"), [(-1, True), (0, True), (1, False)])
def test_the_size_of_an_event_is_exact(character: str, surplus: int, legal: bool) -> None:
    """UTF-8 bytes and overhead, to the byte, for characters of 1 to 4 bytes."""
    count, filler = divmod(FULL + surplus, len(character.encode()))
    assert accepted(batch(character * count + "x" * filler)) is legal


@pytest.mark.parametrize("character", ["a", "\u00e9", "\u20ac", "\U0001f600"])
@pytest.mark.parametrize(("surplus", "legal"), [(-1, True), (0, True), (1, False)])
def test_the_size_of_a_batch_is_exact(character: str, surplus: int, legal: bool) -> None:
    """The overhead counts for each of the events."""
    rest = FULL - rules.EVENT_OVERHEAD_BYTES - 1000 + surplus
    count, filler = divmod(rest, len(character.encode()))
    assert accepted(batch("y" * 1000, character * count + "x" * filler)) is legal


def accepted(events: list[dict[str, Any]]) -> bool:
    """Whether the rules let the batch pass."""
    try:
        rules.check_batch(events)
    except Refused as refused:
        return not refused.violation
    return True


@pytest.mark.parametrize(("surplus", "legal"), [(0, True), (1, False)])
def test_the_limit_of_an_event_can_be_an_older_one(clock: Clock, surplus: int, legal: bool) -> None:
    """256 KB, overhead included, as before April 2025."""
    with StrictService(max_event_bytes=262_144, clock=clock) as service:
        service.create_log_stream("group", "stream")
        assert outcome(service.client(), (clock.ms, "m" * (262_118 + surplus))) is legal


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"timestamp": -1, "message": "m"}, "InvalidParameterException"),
        ({"timestamp": 0, "message": ""}, "InvalidParameterException"),
        ({"timestamp": 0}, "InvalidParameterException"),
        ({"message": "m"}, "InvalidParameterException"),
        ({"timestamp": 0.5, "message": "m"}, "SerializationException"),
        ({"timestamp": True, "message": "m"}, "SerializationException"),
        ({"timestamp": "0", "message": "m"}, "SerializationException"),
        ({"timestamp": 0, "message": 1}, "SerializationException"),
        ({"timestamp": 0, "message": "\ud800"}, "SerializationException"),
        ({"timestamp": 0, "message": "m", "level": "INFO"}, "SerializationException"),
        ("m", "SerializationException"),
    ],
)
def test_an_event_of_the_wrong_form_is_refused(event: Any, code: str) -> None:
    """Values out of bounds are invalid; wrong types are no serialization of an event."""
    with pytest.raises(Refused) as caught:
        rules.check_batch([event])
    assert caught.value.code == code


@pytest.mark.parametrize(("timestamps", "legal"), [([1, 2], True), ([1, 1], True), ([2, 1], False)])
def test_events_are_chronological(timestamps: list[int], legal: bool) -> None:
    """Equal timestamps are in order, a millisecond back is not."""
    assert accepted(batch("a", "b", timestamps=timestamps)) is legal


@pytest.mark.parametrize(("count", "legal"), [(0, False), (1, True), (10_000, True), (10_001, False)])
def test_the_count_of_a_batch_is_exact(service: StrictService, clock: Clock, count: int, legal: bool) -> None:
    """1 to 10,000 events."""
    client = service.client(config=UNCHECKED)
    if legal:
        put(client, *[(clock.ms, "m")] * count)
    else:
        with pytest.raises(client.exceptions.InvalidParameterException):
            put(client, *[(clock.ms, "m")] * count)
    assert len(service.messages("group", "stream")) == count * legal


OLD, EXPIRED, NEW = "tooOldLogEventEndIndex", "expiredLogEventEndIndex", "tooNewLogEventStartIndex"


@pytest.mark.parametrize(
    ("retention", "ages", "info", "kept"),
    [
        (None, [14 * DAY], {}, 1),
        (None, [14 * DAY + 1], {OLD: 1}, 0),
        (None, [-2 * HOUR], {}, 1),
        (None, [-2 * HOUR - 1], {NEW: 0}, 0),
        (1, [DAY], {}, 1),
        (1, [DAY + 1], {EXPIRED: 1}, 0),
        (30, [14 * DAY + 1], {OLD: 1}, 0),
        (30, [30 * DAY + 1], {OLD: 1, EXPIRED: 1}, 0),
        (None, [15 * DAY, 15 * DAY, 0, 0, -3 * HOUR, -4 * HOUR], {OLD: 2, NEW: 4}, 2),
        (1, [20 * DAY, DAY + 2, DAY + 1, HOUR, -3 * HOUR], {OLD: 1, EXPIRED: 3, NEW: 4}, 1),
    ],
)
def test_rejected_events_are_told_by_index(
    clock: Clock, retention: int | None, ages: list[int], info: dict[str, int], kept: int
) -> None:
    """Two exclusive ends that may overlap, one inclusive start, exact to the millisecond."""
    with StrictService(clock=clock) as service:
        service.create_log_group("group", retention)
        service.create_log_stream("group", "stream")
        answer = put(service.client(), *[(clock.ms - age, str(age)) for age in ages])
        assert answer.get("rejectedLogEventsInfo", {}) == info
        assert len(service.messages("group", "stream")) == kept
        assert service.violations == []


@pytest.mark.parametrize(
    ("ages", "legal"),
    [
        ([DAY, 0], True),
        ([DAY + 1, 0], False),
        ([15 * DAY, 14 * DAY, 13 * DAY], True),
        ([22 * HOUR, -2 * HOUR, -9 * DAY], True),
        ([22 * HOUR + 1, -2 * HOUR], False),
    ],
)
def test_the_span_of_the_valid_events_is_exact(
    service: StrictService, clock: Clock, ages: list[int], legal: bool
) -> None:
    """24 hours pass, a millisecond more does not; events too old or too new do not count."""
    events = [(clock.ms - age, "m") for age in ages]
    if legal:
        put(service.client(), *events)
    else:
        with pytest.raises(ClientError, match="24 hours"):
            put(service.client(), *events)
    assert bool(service.violations) is not legal


# Upload tokens


def test_enforced_tokens_are_a_chain(clock: Clock) -> None:
    """None on a new stream, then what the last answer or DescribeLogStreams said."""
    with StrictService(enforce_tokens=True, clock=clock) as service:
        service.create_log_stream("group", "stream")
        client = service.client()
        (stream,) = client.describe_log_streams(logGroupName="group")["logStreams"]
        assert "uploadSequenceToken" not in stream
        first = put(client, (clock.ms, "a"))["nextSequenceToken"]
        second = put(client, (clock.ms, "b"), sequenceToken=first)["nextSequenceToken"]
        (stream,) = client.describe_log_streams(logGroupName="group")["logStreams"]
        assert stream["uploadSequenceToken"] == second
        assert service.messages("group", "stream") == ["a", "b"]


@pytest.mark.parametrize("token", [None, "made-up"])
def test_a_stale_token_is_refused_with_the_expected_one(clock: Clock, token: str | None) -> None:
    """InvalidSequenceTokenException carries ``expectedSequenceToken``, and is no violation."""
    with StrictService(enforce_tokens=True, clock=clock) as service:
        service.create_log_stream("group", "stream")
        client = service.client()
        expected = put(client, (clock.ms, "a"))["nextSequenceToken"]
        with pytest.raises(client.exceptions.InvalidSequenceTokenException) as caught:
            put(client, (clock.ms, "b"), **({"sequenceToken": token} if token else {}))
        assert caught.value.response["expectedSequenceToken"] == expected
        assert service.violations == []


def test_a_token_on_a_new_stream_is_refused(clock: Clock) -> None:
    """Nothing is expected there; the error has no ``expectedSequenceToken``."""
    with StrictService(enforce_tokens=True, clock=clock) as service:
        service.create_log_stream("group", "stream")
        client = service.client()
        with pytest.raises(client.exceptions.InvalidSequenceTokenException) as caught:
            put(client, (clock.ms, "a"), sequenceToken="made-up")
        assert "expectedSequenceToken" not in caught.value.response


def test_the_same_batch_with_its_own_token_is_already_accepted(clock: Clock) -> None:
    """DataAlreadyAcceptedException, also for the first batch, which had no token; stored once."""
    with StrictService(enforce_tokens=True, clock=clock) as service:
        service.create_log_stream("group", "stream")
        client = service.client()
        first = put(client, (clock.ms, "a"))["nextSequenceToken"]
        with pytest.raises(client.exceptions.DataAlreadyAcceptedException) as caught:
            put(client, (clock.ms, "a"))
        assert caught.value.response["expectedSequenceToken"] == first
        put(client, (clock.ms, "b"), sequenceToken=first)
        with pytest.raises(client.exceptions.DataAlreadyAcceptedException):
            put(client, (clock.ms, "b"), sequenceToken=first)
        with pytest.raises(client.exceptions.InvalidSequenceTokenException):
            put(client, (clock.ms, "c"), sequenceToken=first)
        assert service.messages("group", "stream") == ["a", "b"]


def test_a_stream_made_again_expects_no_token(clock: Clock) -> None:
    """Tokens belong to the stream that was deleted."""
    with StrictService(enforce_tokens=True, clock=clock) as service:
        service.create_log_stream("group", "stream")
        token = put(service.client(), (clock.ms, "a"))["nextSequenceToken"]
        service.delete_log_stream("group", "stream")
        service.create_log_stream("group", "stream")
        with pytest.raises(ClientError, match="InvalidSequenceToken"):
            put(service.client(), (clock.ms, "a"), sequenceToken=token)
        put(service.client(), (clock.ms, "a"))


@pytest.mark.parametrize("issue", [True, False])
def test_tokens_may_be_issued_though_nobody_enforces_them(clock: Clock, issue: bool) -> None:
    """As the service does today, or not at all."""
    with StrictService(issue_tokens=issue, clock=clock) as service:
        service.create_log_stream("group", "stream")
        answer = put(service.client(), (clock.ms, "a"), sequenceToken="made-up")
        assert ("nextSequenceToken" in answer) is issue


# Groups and streams


@pytest.mark.parametrize("days", sorted({day + d for day in rules.RETENTION_DAYS for d in (0, 1)}))
def test_retention_comes_in_fixed_steps(service: StrictService, days: int) -> None:
    """Each documented number of days is accepted, the next one is not."""
    if days in rules.RETENTION_DAYS:
        service.create_log_group("other", days)
    else:
        with pytest.raises(Refused, match="retentionInDays"):
            service.create_log_group("other", days)


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("a", True),
        ("./-_#Z9", True),
        ("g" * 512, True),
        ("aws", True),
        ("/aws/lambda/f", True),
        ("", False),
        ("g" * 513, False),
        ("aws/", False),
        ("a b", False),
        ("a\n", False),
        ("\u00e9", False),
    ],
)
def test_group_names_are_exact(service: StrictService, name: str, legal: bool) -> None:
    """The pattern holds for the whole name, and 1 to 512 characters."""
    assert made(lambda: service.create_log_group(name)) is legal


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("s", True),
        ("é /[$LATEST]", True),
        ("s" * 512, True),
        ("", False),
        ("s" * 513, False),
        ("a:b", False),
        ("a*b", False),
    ],
)
def test_stream_names_are_exact(service: StrictService, name: str, legal: bool) -> None:
    """Anything but ``:`` and ``*``, 1 to 512 characters."""
    assert made(lambda: service.create_log_stream("group", name)) is legal


def made(make: Any) -> bool:
    """Whether the name was accepted."""
    try:
        make()
    except Refused as refused:
        return refused.code != "InvalidParameterException"
    return True


@pytest.mark.parametrize(
    ("parameters", "legal"),
    [
        ({"logGroupClass": "DELIVERY"}, True),
        ({"logGroupClass": "GOLD"}, False),
        ({"kmsKeyId": "k" * 256}, True),
        ({"kmsKeyId": "k" * 257}, False),
        ({"tags": {str(n): "" for n in range(50)}}, True),
        ({"tags": {str(n): "" for n in range(51)}}, False),
        ({"tags": {}}, False),
        ({"tags": {"k" * 128: "v" * 256}}, True),
        ({"tags": {"k" * 129: ""}}, False),
        ({"tags": {"k": "v" * 257}}, False),
        ({"tags": {"k!": "v"}}, False),
        ({"retentionInDays": 1}, False),
    ],
)
def test_the_options_of_a_group_are_exact(service: StrictService, parameters: dict[str, Any], legal: bool) -> None:
    """Class, key and tags have their bounds; a parameter of another operation is unknown."""
    body = {"logGroupName": "other", **parameters}
    assert call(service, "CreateLogGroup", body)[0] == (200 if legal else 400)
    assert bool(service.violations) is not legal


def test_a_group_has_at_most_fifty_tags(service: StrictService) -> None:
    """Tags added to those that are there count together."""
    arn = "arn:aws:logs:us-east-1:123456789012:log-group:group"
    client = service.client()
    client.tag_resource(resourceArn=arn, tags={str(n): "" for n in range(50)})
    client.tag_resource(resourceArn=arn, tags={"0": "changed"})
    with pytest.raises(client.exceptions.TooManyTagsException):
        client.tag_resource(resourceArn=arn, tags={"one": "more"})


def test_streams_can_be_described_by_their_last_event(service: StrictService, clock: Clock) -> None:
    """By LastEventTime, newest first, and never together with a prefix."""
    service.create_log_stream("group", "b")
    service.add_events("group", "b", [(clock.ms, "m")])
    order = {"logGroupName": "group", "orderBy": "LastEventTime", "descending": True}
    found = service.client().describe_log_streams(**order)["logStreams"]
    assert [stream["logStreamName"] for stream in found] == ["b", "stream"]
    with pytest.raises(ClientError, match="LastEventTime"):
        service.client().describe_log_streams(**order, logStreamNamePrefix="b")


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("DescribeLogGroups", {"logGroupNamePrefix": "a", "logGroupNamePattern": "a"}),
        ("DescribeLogStreams", {}),
        ("DescribeLogStreams", {"logGroupName": "group", "logGroupIdentifier": "group"}),
        ("FilterLogEvents", {"logGroupName": "group", "logStreamNames": ["a:b"]}),
        ("FilterLogEvents", {"logGroupName": "group", "logStreamNames": []}),
        ("GetLogEvents", {"logGroupName": "group"}),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(
    service: StrictService, operation: str, body: dict[str, Any]
) -> None:
    """One of two that exclude each other, members of lists, and what is required."""
    status, answer = call(service, operation, body)
    assert (status, answer["__type"]) == (400, "InvalidParameterException")


def test_groups_can_be_described_by_part_of_the_name_and_by_class(service: StrictService) -> None:
    """The pattern is found anywhere in the name."""
    client = service.client()
    client.create_log_group(logGroupName="rare/up", logGroupClass="INFREQUENT_ACCESS")
    client.create_log_group(logGroupName="up/often")
    for parameters, names in (
        ({"logGroupNamePattern": "up"}, ["group", "rare/up", "up/often"]),
        ({"logGroupNamePattern": "/up"}, ["rare/up"]),
        ({"logGroupClass": "STANDARD"}, ["group", "up/often"]),
    ):
        found = client.describe_log_groups(**parameters)["logGroups"]
        assert [group["logGroupName"] for group in found] == names


def test_a_stream_without_a_token_has_no_such_member(service: StrictService) -> None:
    """Absent from the JSON, not null."""
    _, answer = call(service, "DescribeLogStreams", {"logGroupName": "group"})
    assert "uploadSequenceToken" not in answer["logStreams"][0]


def test_quotas_throttle_per_second(clock: Clock) -> None:
    """The request above the quota gets ThrottlingException, until a second has passed."""
    with StrictService(quotas=rules.QUOTAS, clock=clock) as service:
        service.create_log_group("group")
        client = service.client()
        for _ in range(rules.QUOTAS["DescribeLogStreams"]):
            client.describe_log_streams(logGroupName="group")
        with pytest.raises(client.exceptions.ThrottlingException):
            client.describe_log_streams(logGroupName="group")
        clock.now += 1
        client.describe_log_streams(logGroupName="group")
        assert service.violations == []


# Reading


def get_pages(client: Any, **parameters: Any) -> list[list[str]]:
    """The messages of each page of GetLogEvents, the last and empty one included."""
    token = "nextForwardToken" if parameters.get("startFromHead") else "nextBackwardToken"
    pages: list[list[str]] = []
    sent: dict[str, str] = {}
    while True:
        page = client.get_log_events(**NAMES | parameters | sent)
        pages.append([event["message"] for event in page["events"]])
        if page[token] == sent.get("nextToken"):
            return pages
        sent = {"nextToken": page[token]}


@pytest.mark.parametrize("head", [True, False])
def test_a_quiet_period_gives_empty_pages_with_moving_tokens(service: StrictService, clock: Clock, head: bool) -> None:
    """Pages are cut by time too; the read goes on behind them, in either direction."""
    service.add_events("group", "stream", [(clock.ms - 10 * DAY, "old"), (clock.ms, "new")])
    pages = get_pages(service.client(), startFromHead=head)
    ends = [["old"], ["new"]] if head else [["new"], ["old"]]
    assert [page for page in pages if page] == ends
    assert 3 < pages.index(ends[1]) < 20


def test_a_quiet_group_repeats_its_token(service: StrictService, clock: Clock) -> None:
    """Sending the same token of FilterLogEvents again goes on."""
    service.add_events("group", "stream", [(clock.ms - 10 * DAY, "old"), (clock.ms, "new")])
    client, tokens, messages = service.client(), [], []
    page = client.filter_log_events(logGroupName="group")
    while "nextToken" in page:
        tokens.append(page["nextToken"])
        messages += page["events"]
        page = client.filter_log_events(logGroupName="group", nextToken=tokens[-1])
    assert len(tokens) > len(set(tokens)) == 1
    assert [event["message"] for event in messages + page["events"]] == ["old", "new"]


def test_quiet_periods_can_be_left_out(clock: Clock) -> None:
    """With ``page_span=None`` a page crosses any gap."""
    with StrictService(page_span=None, clock=clock) as service:
        service.create_log_stream("group", "stream")
        service.add_events("group", "stream", [(clock.ms - 10 * DAY, "old"), (clock.ms, "new")])
        assert get_pages(service.client(), startFromHead=True) == [["old", "new"], []]


@pytest.mark.parametrize("head", [True, False])
def test_pages_are_cut_at_the_page_size(clock: Clock, head: bool) -> None:
    """Nothing is lost or repeated between pages, also among events of one instant."""
    with StrictService(page_size=2, clock=clock) as service:
        service.create_log_stream("group", "stream")
        service.add_events("group", "stream", [(clock.ms, str(n)) for n in range(5)])
        pages = get_pages(service.client(), startFromHead=head)
        assert sorted(message for page in pages for message in page) == ["0", "1", "2", "3", "4"]
        assert [len(page) for page in pages] == [2, 2, 1, 0]


def test_a_page_is_cut_at_a_megabyte(service: StrictService, clock: Clock) -> None:
    """1,048,576 bytes of messages and overhead fit in one page, one more does not."""
    half = MAX_PAGE_BYTES // 2 - rules.EVENT_OVERHEAD_BYTES
    for surplus, sizes in ((0, [2, 0]), (1, [1, 1, 0])):
        stream = f"stream-{surplus}"
        service.create_log_stream("group", stream)
        texts = ["x" * half, "x" * (half + surplus)]
        service.add_events("group", stream, [(clock.ms, text) for text in texts])
        pages = get_pages(service.client(), startFromHead=True, logStreamName=stream)
        assert [len(page) for page in pages] == sizes


def test_a_filter_gives_empty_pages_where_nothing_matches(clock: Clock) -> None:
    """A page looks at so many events and returns those that match."""
    with StrictService(page_size=2, clock=clock) as service:
        service.create_log_stream("group", "stream")
        service.add_events("group", "stream", [(clock.ms, text) for text in "xxxxmx"])
        client, sent, pages = service.client(), dict[str, Any](), []
        for _ in range(3):
            page = client.filter_log_events(logGroupName="group", filterPattern="m", **sent)
            pages.append([event["message"] for event in page["events"]])
            sent = {"nextToken": page.get("nextToken")}
        assert (pages, sent) == ([[], [], ["m"]], {"nextToken": None})


def test_an_event_becomes_visible_only_later(service: StrictService, clock: Clock) -> None:
    """Stored at once, readable after the delay, and then behind the token if it is older."""
    service.add_events("group", "stream", [(clock.ms, "newer")])
    service.add_events("group", "stream", [(clock.ms - 1, "late")], visible_after=5)
    client = service.client()
    page = client.get_log_events(**NAMES, startFromHead=True)
    assert [event["message"] for event in page["events"]] == ["newer"]
    clock.now += 5
    token = page["nextForwardToken"]
    assert client.get_log_events(**NAMES, startFromHead=True, nextToken=token)["events"] == []
    found = client.filter_log_events(logGroupName="group")["events"]
    assert [event["message"] for event in found] == ["late", "newer"]


def test_what_is_put_shows_after_the_visibility_delay(clock: Clock) -> None:
    """Ingestion takes as long as the option says."""
    with StrictService(visibility_delay=2.5, clock=clock) as service:
        service.create_log_stream("group", "stream")
        put(service.client(), (clock.ms, "m"))
        assert service.messages("group", "stream") == ["m"]
        for passed, pages in ((0.0, [[], []]), (2.499, [[], []]), (0.001, [["m"], []])):
            clock.now += passed
            assert get_pages(service.client(), startFromHead=True) == pages


@pytest.mark.parametrize(("hours", "legal"), [(24, True), (24.001, False)])
def test_a_page_token_lives_24_hours(service: StrictService, clock: Clock, hours: float, legal: bool) -> None:
    """Then the read has to start anew."""
    client = service.client()
    token = client.get_log_events(**NAMES, startFromHead=True)["nextForwardToken"]
    clock.now += hours * 3600
    if legal:
        client.get_log_events(**NAMES, startFromHead=True, nextToken=token)
    else:
        with pytest.raises(client.exceptions.InvalidParameterException, match="expired"):
            client.get_log_events(**NAMES, startFromHead=True, nextToken=token)


def test_a_page_token_belongs_to_its_read(service: StrictService) -> None:
    """Neither another stream nor the other operation takes it."""
    service.create_log_stream("group", "other")
    client = service.client()
    token = client.get_log_events(**NAMES, startFromHead=True)["nextForwardToken"]
    other = NAMES | {"logStreamName": "other"}
    with pytest.raises(client.exceptions.InvalidParameterException):
        client.get_log_events(**other, startFromHead=True, nextToken=token)
    with pytest.raises(client.exceptions.InvalidParameterException):
        client.filter_log_events(logGroupName="group", nextToken=token)


def test_a_forward_token_needs_start_from_head(service: StrictService) -> None:
    """Without it the request is refused, and recorded."""
    client = service.client()
    token = client.get_log_events(**NAMES, startFromHead=True)["nextForwardToken"]
    with pytest.raises(client.exceptions.InvalidParameterException, match="startFromHead"):
        client.get_log_events(**NAMES, nextToken=token)
    assert [operation for operation, _ in service.violations] == ["GetLogEvents"]


def test_a_read_can_turn_round(service: StrictService, clock: Clock) -> None:
    """The backward token of a page leads to what lies before it, and nothing twice."""
    service.add_events("group", "stream", [(clock.ms + n, str(n)) for n in range(4)])
    client = service.client()
    page = client.get_log_events(**NAMES, startFromHead=True, startTime=clock.ms + 2)
    back = client.get_log_events(**NAMES, nextToken=page["nextBackwardToken"])
    assert [event["message"] for event in page["events"]] == ["2", "3"]
    assert [event["message"] for event in back["events"]] == ["0", "1"]


@CURRENT
def test_a_group_can_be_read_backward(service: StrictService, clock: Clock) -> None:
    """With ``startFromHead`` false the newest come first, in ranges from 2024 on."""
    service.add_events("group", "stream", [(clock.ms + n, str(n)) for n in range(3)])
    client = service.client()
    backward = {"logGroupName": "group", "startFromHead": False}
    found = client.filter_log_events(**backward, startTime=clock.ms)["events"]
    assert [event["message"] for event in found] == ["2", "1", "0"]
    with pytest.raises(client.exceptions.InvalidParameterException):
        client.filter_log_events(**backward)


def test_a_stream_that_is_named_must_be_there(service: StrictService) -> None:
    """FilterLogEvents finds no stream of that name, and says so; that is no violation."""
    client = service.client()
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.filter_log_events(logGroupName="group", logStreamNames=["stream", "missing"])
    assert service.violations == []


@pytest.mark.parametrize(
    ("pattern", "message", "matches"),
    [
        ("error", "an error here", True),
        ("error", "an ERROR here", False),
        ("error here", "here is an error", True),
        ('"error here"', "here is an error", False),
        ('"a \\"b\\""', 'a "b"', True),
        ("error -debug", "error debug", False),
        ("?one ?two", "two", True),
        ("?one ?two", "three", False),
    ],
)
def test_a_filter_pattern_matches(pattern: str, message: str, matches: bool) -> None:
    """Terms, phrases, exclusions and alternatives, by case."""
    assert compile_pattern(pattern)(message) is matches


@pytest.mark.parametrize("pattern", ["user-1", "{ $.level = 1 }", "[a, b]", '"open', "%re%"])
def test_a_term_with_other_characters_must_be_quoted(pattern: str) -> None:
    """The service refuses it; this one also refuses the syntaxes that it does not have."""
    with pytest.raises(Refused, match="Invalid character"):
        compile_pattern(pattern)


# HTTP


def call(service: StrictService, operation: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    """One signed-by-a-stranger POST past boto3; status and the decoded body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(service.url, data)
    signature = "AWS4-HMAC-SHA256 Credential=x/y, SignedHeaders=z, Signature=" + "0" * 64
    for name, value in {
        "Authorization": signature,
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": f"Logs_20140328.{operation}",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }.items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"", {}, "SerializationException"),
        (b"{", {}, "SerializationException"),
        (b"[]", {}, "SerializationException"),
        (b'{"limit": NaN}', {}, "SerializationException"),
        (b'{"logGroupNamePrefix": "\xff"}', {}, "SerializationException"),
        (b"{}", {"Content_Encoding": "gzip"}, "SerializationException"),
        (b"{}", {"Content_Encoding": "zstd"}, "SerializationException"),
        (b"{}", {"Content_Type": "application/json"}, "SerializationException"),
        (b"{}", {"X_Amz_Target": "Logs_20140328.Nothing"}, "UnknownOperationException"),
        (b"{}", {"X_Amz_Target": "DescribeLogGroups"}, "UnknownOperationException"),
        (b"{}", {"Authorization": ""}, "MissingAuthenticationTokenException"),
        (b'{"limit": "1"}', {}, "SerializationException"),
        (b'{"limit": 51}', {}, "InvalidParameterException"),
        (b'{"limit": 0}', {}, "InvalidParameterException"),
    ],
)
def test_a_request_of_the_wrong_form_is_refused(
    service: StrictService, body: bytes, headers: dict[str, str], code: str
) -> None:
    """Status 400, the code of the service, a record of the violation."""
    status, answer = call(service, "DescribeLogGroups", body, **headers)
    assert (status, answer["__type"]) == (400, code)
    assert len(service.violations) == 1
    assert service.requests[-1].error == code


def test_requests_are_recorded(service: StrictService, clock: Clock) -> None:
    """Operation, parameters, headers, size on the wire, connection, and what was answered."""
    client = service.client()
    put(client, (clock.ms, "m"))
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.describe_log_streams(logGroupName="missing")
    first, second = service.requests
    assert (first.operation, first.status, first.error) == ("PutLogEvents", 200, None)
    assert first.parameters["logEvents"] == [{"timestamp": clock.ms, "message": "m"}]
    assert first.body_size == int(first.headers["content-length"])
    assert (second.status, second.error) == (400, "ResourceNotFoundException")
    assert first.peer == second.peer
    assert first.time < second.time
    assert (service.count("PutLogEvents"), service.count("GetLogEvents")) == (1, 0)
    assert service.violations == []


def compress(params: dict[str, Any], **_: object) -> None:
    """Compresses a body before it is signed."""
    params["body"] = gzip.compress(params["body"])
    params["headers"]["Content-Encoding"] = "gzip"


BEFORE_CALL = "before-call.cloudwatch-logs.PutLogEvents"


def test_a_compressed_body_is_read(service: StrictService, clock: Clock) -> None:
    """The record tells that it was compressed, and its size on the wire."""
    client = service.client()
    client.meta.events.register(BEFORE_CALL, compress)
    put(client, (clock.ms, "m" * 10_000))
    assert service.messages("group", "stream") == ["m" * 10_000]
    assert service.requests[0].gzip
    assert service.requests[0].body_size < 1000


@pytest.mark.parametrize(
    ("refuse", "status"),
    [(True, 415), (Error("SerializationException"), 400), (Error("InternalFailure", 500), 500)],
)
def test_a_compressed_body_may_be_refused(clock: Clock, refuse: bool | Error, status: int) -> None:
    """As compatible endpoints do; the same body without compression passes."""
    with StrictService(refuse_gzip=refuse, clock=clock) as service:
        service.create_log_stream("group", "stream")
        client = service.client()
        client.meta.events.register(BEFORE_CALL, compress)
        with pytest.raises(ClientError) as caught:
            put(client, (clock.ms, "m"))
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        put(service.client(), (clock.ms, "m"))
        assert service.messages("group", "stream") == ["m"]
        assert service.violations == []


def test_a_body_changed_after_signing_is_refused(service: StrictService, clock: Clock) -> None:
    """The signature covers the body as it is on the wire."""

    def change(request: Any, **_: object) -> None:
        request.body = request.body.replace(b"m", b"n")

    client = service.client()
    client.meta.events.register("before-send.cloudwatch-logs.PutLogEvents", change)
    with pytest.raises(ClientError) as caught:
        put(client, (clock.ms, "m"))
    assert refusal(caught) == "InvalidSignatureException"


def test_many_clients_put_at_once(service: StrictService, clock: Clock) -> None:
    """Each batch is stored once and in one piece."""

    def work(number: int) -> None:
        client = service.client()
        for turn in range(10):
            put(client, (clock.ms, f"{number}-{turn}"), (clock.ms, f"{number}-{turn}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    messages = service.messages("group", "stream")
    assert messages[::2] == messages[1::2]
    assert len(set(messages)) == 80


# Faults


def test_an_error_comes_with_its_fields(service: StrictService, clock: Clock) -> None:
    """Code, status and further members are what the test asked for; nothing is stored."""
    fields = {"expectedSequenceToken": "1"}
    service.inject(Error("InvalidSequenceTokenException", 400, "stale", fields))
    service.inject(Error("ServiceUnavailableException", 503))
    client = service.client()
    with pytest.raises(client.exceptions.InvalidSequenceTokenException, match="stale") as caught:
        put(client, (clock.ms, "m"))
    assert caught.value.response["expectedSequenceToken"] == "1"
    with pytest.raises(client.exceptions.ServiceUnavailableException) as caught:
        put(client, (clock.ms, "m"))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert caught.value.response["ResponseMetadata"]["RequestId"]
    assert service.messages("group", "stream") == []
    assert service.violations == []


def outcome(client: Any, event: tuple[int, str]) -> bool:
    """Whether a put succeeds."""
    try:
        put(client, event)
    except ClientError:
        return False
    return True


def test_a_fault_strikes_when_and_as_often_as_asked(service: StrictService, clock: Clock) -> None:
    """``skip`` lets requests through first, ``times`` ends it, ``when`` selects, hits count."""
    client = service.client()
    injection = service.inject(
        Error("InternalFailure", 500),
        times=2,
        skip=1,
        when=lambda parameters: parameters["logEvents"][0]["message"] == "m",
    )
    outcomes = [outcome(client, (clock.ms, message)) for message in "mnmmm"]
    assert outcomes == [True, True, False, False, True]
    assert injection.hits == 2


def test_a_fault_stays_until_it_is_removed(service: StrictService, clock: Clock) -> None:
    """``times=None`` has no end, other operations are spared, and ``remove`` ends it."""
    client = service.client()
    injection = service.inject(Error("InternalFailure", 500), times=None)
    assert [outcome(client, (clock.ms, "m")) for _ in range(3)] == [False] * 3
    client.describe_log_groups()
    injection.remove()
    assert outcome(client, (clock.ms, "m"))
    assert injection.hits == 3


@pytest.mark.parametrize("stored", [False, True])
def test_a_reset_breaks_the_connection(service: StrictService, clock: Clock, stored: bool) -> None:
    """The client sees a broken connection; with ``stored`` the batch is there all the same."""
    service.inject(Reset(stored))
    with pytest.raises(ConnectionClosedError):
        put(service.client(), (clock.ms, "m"))
    assert service.messages("group", "stream") == ["m"] * stored
    assert service.requests[0].status is None


def test_a_reset_is_a_tcp_reset(service: StrictService) -> None:
    """Not a connection that was closed in good order."""
    service.inject(Reset(), operation=None)
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
            b"Authorization: AWS4-HMAC-SHA256 Credential=x/y, SignedHeaders=z, "
            b"Signature=" + b"0" * 64 + b"\r\n"
            b"Content-Type: application/x-amz-json-1.1\r\n"
            b"X-Amz-Target: Logs_20140328.PutLogEvents\r\n\r\n{}"
        )
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.mark.parametrize("stored", [False, True])
def test_a_hanging_request_is_never_answered(service: StrictService, clock: Clock, stored: bool) -> None:
    """The client's read time-out ends it; with ``stored`` the batch is there all the same."""
    service.inject(Hang(stored))
    client = service.client(config=Config(read_timeout=0.2))
    with pytest.raises(ReadTimeoutError):
        put(client, (clock.ms, "m"))
    assert service.messages("group", "stream") == ["m"] * stored


@pytest.mark.parametrize("stored", [False, True])
def test_a_released_request_is_answered(service: StrictService, clock: Clock, stored: bool) -> None:
    """After ``release`` the answer comes, and the batch is stored once."""
    hang = Hang(stored)
    service.inject(hang)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(put, service.client(), (clock.ms, "m"))
        assert hang.entered.wait(10)
        assert service.requests[0].status is None
        hang.release()
        assert pending.result(10)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert service.messages("group", "stream") == ["m"]


def test_a_held_request_leaves_room_to_act(service: StrictService, clock: Clock) -> None:
    """Between ``entered`` and ``release`` others are served; the request takes effect after."""
    hold = Hold()
    service.inject(hold, operation="CreateLogStream")
    create = service.client().create_log_stream
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(create, logGroupName="group", logStreamName="new")
        assert hold.entered.wait(10)
        put(service.client(), (clock.ms, "m"))
        assert "new" not in str(service.client().describe_log_streams(logGroupName="group"))
        hold.release.set()
        pending.result(10)
    assert "new" in str(service.client().describe_log_streams(logGroupName="group"))


def test_a_client_that_went_away_is_no_defect(service: StrictService, clock: Clock) -> None:
    """An answer that nobody waits for any more is dropped, and the service goes on."""
    hang = Hang()
    service.inject(hang)
    with pytest.raises(ReadTimeoutError):
        put(service.client(config=Config(read_timeout=0.1)), (clock.ms, "m"))
    hang.release()
    assert service.wait_for(lambda: service.requests[0].status == 200)
    put(service.client(), (clock.ms, "n"))
    assert service.messages("group", "stream") == ["m", "n"]
    assert service.violations == []


def test_a_delayed_answer_is_stored_at_once(service: StrictService, clock: Clock) -> None:
    """The batch is there before the answer, which comes once the event is set."""
    event = threading.Event()
    service.inject(Delay(event))
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(put, service.client(), (clock.ms, "m"))
        assert service.wait_for(lambda: service.messages("group", "stream") == ["m"])
        assert not pending.done()
        event.set()
        pending.result(10)


@pytest.mark.parametrize("how", ["delay", "latency"])
def test_seconds_pass_before_a_slow_answer(clock: Clock, how: str) -> None:
    """``Delay`` slows one request, ``latency`` each."""
    with StrictService(clock=clock, latency=0.1 * (how == "latency")) as service:
        service.create_log_stream("group", "stream")
        client = service.client()
        if how == "delay":
            service.inject(Delay(0.1))
        begin = time.monotonic()
        put(client, (clock.ms, "m"))
        assert time.monotonic() - begin >= 0.1


def test_a_page_of_html_looks_like_a_success_to_botocore(service: StrictService, clock: Clock) -> None:
    """Only the missing request id tells that a proxy answered; nothing is stored."""
    service.inject(Html())
    answer = put(service.client(), (clock.ms, "m"))
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert "RequestId" not in answer["ResponseMetadata"]
    assert service.messages("group", "stream") == []


@CURRENT
def test_a_truncated_answer_looks_like_a_success_to_botocore(service: StrictService, clock: Clock) -> None:
    """Only the length of the body tells; the batch is stored, what the answer said is lost."""
    bodies = []
    service.inject(Truncate())
    client = service.client()
    client.meta.events.register(
        "after-call.cloudwatch-logs.PutLogEvents",
        lambda http_response, **_: bodies.append(http_response.content),
    )
    answer = put(client, (clock.ms, "m"))
    assert "nextSequenceToken" not in answer
    length = int(answer["ResponseMetadata"]["HTTPHeaders"]["content-length"])
    assert 0 < len(bodies[0]) < length
    assert service.messages("group", "stream") == ["m"]


def test_a_poisoned_message_refuses_its_batch(service: StrictService, clock: Clock) -> None:
    """InvalidParameterException for the whole batch, without a record of a violation."""
    service.poison = lambda message: "bad" in message
    client = service.client()
    with pytest.raises(client.exceptions.InvalidParameterException):
        put(client, (clock.ms, "good"), (clock.ms, "bad"))
    put(client, (clock.ms, "good"))
    assert service.messages("group", "stream") == ["good"]
    assert service.violations == []


# Life


def test_closing_ends_a_request_that_hangs(clock: Clock) -> None:
    """The client sees its connection end, and closing takes no time."""
    hang = Hang()
    with ThreadPoolExecutor(1) as pool:
        with StrictService(clock=clock) as service:
            service.create_log_stream("group", "stream")
            service.inject(hang)
            pending = pool.submit(put, service.client(), (clock.ms, "m"))
            assert hang.entered.wait(10)
            begin = time.monotonic()
        assert time.monotonic() - begin < 1
        with pytest.raises(ConnectionClosedError):
            pending.result(10)


def test_closing_leaves_no_thread_and_frees_the_port(clock: Clock) -> None:
    """A service can come back on the port of an earlier one; its state is new."""
    before = set(threading.enumerate())
    port = free_port()
    with StrictService(clock=clock, port=port) as service:
        service.client().describe_log_groups()
    service.close()
    assert not set(threading.enumerate()) - before
    with StrictService(port=port) as service:
        service.client().describe_log_groups()


def test_waiting_ends_with_the_request_or_the_timeout(service: StrictService) -> None:
    """``wait_for`` tells which."""
    assert not service.wait_for(lambda: service.count("DescribeLogGroups") == 1, timeout=0.01)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(service.client().describe_log_groups)
        assert service.wait_for(lambda: service.count("DescribeLogGroups") == 1)


def test_a_closed_port_refuses() -> None:
    """Nothing listens there."""
    with closed_port() as url, StrictService() as service, pytest.raises(EndpointConnectionError):
        service.client(endpoint_url=url).describe_log_groups()


@pytest.mark.parametrize(("connects", "error"), [(False, ConnectTimeoutError), (True, ReadTimeoutError)])
def test_a_black_hole_swallows_packets(connects: bool, error: type[Exception]) -> None:
    """Before or after the connection is made."""
    config = Config(connect_timeout=0.2, read_timeout=0.2)
    with black_hole(connects=connects) as url, StrictService() as service, pytest.raises(error):
        service.client(endpoint_url=url, config=config).describe_log_groups()


def test_the_command_prints_its_url_and_serves() -> None:
    """The first line of its output is where it listens."""
    command = [sys.executable, "-m", "tests.strict_service", "--enforce-tokens"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with StrictService() as service:
            client = service.client(endpoint_url=url)
            client.create_log_group(logGroupName="group")
            client.create_log_stream(**NAMES)
            now = int(time.time() * 1000)
            put(client, (now, "m"))
            with pytest.raises(client.exceptions.DataAlreadyAcceptedException):
                put(client, (now, "m"))
        process.terminate()
