"""Every operation of the fake service, on the state it holds.

No I/O, and the time is handed in: ms since the epoch. Not thread-safe; the server holds its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from .paging import Row, Tokens
from .reading import Read, filter_log_events, get_log_events
from .rules import (
    MAX_TAGS,
    SECOND_MS,
    Quotas,
    TokenSource,
    check_ages,
    check_batch,
    check_new_group_name,
    check_retention,
)
from .shapes import Json, Refused, check, invalid
from .state import Group, Options, Stream

DESCRIBE_PAGE = 50

_ARN = "arn:aws:logs:us-east-1:123456789012:log-group:"


class Account:
    """The log groups of one account and region."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.groups: dict[str, Group] = {}
        self._sequence = count()
        self._upload_tokens = TokenSource()
        self._page_tokens = Tokens()
        self._quotas = Quotas(options.quotas)
        self._operations: dict[str, Callable[[Json, int], Json]] = {
            "CreateLogGroup": self._create_log_group,
            "CreateLogStream": self._create_log_stream,
            "DeleteLogGroup": self._delete_log_group,
            "DeleteLogStream": self._delete_log_stream,
            "DeleteRetentionPolicy": self._delete_retention_policy,
            "DescribeLogGroups": self._describe_log_groups,
            "DescribeLogStreams": self._describe_log_streams,
            "FilterLogEvents": self._filter_log_events,
            "GetLogEvents": self._get_log_events,
            "ListTagsForResource": self._list_tags_for_resource,
            "PutLogEvents": self._put_log_events,
            "PutRetentionPolicy": self._put_retention_policy,
            "TagResource": self._tag_resource,
        }

    def call(self, operation: str, parameters: Json, *, now: int) -> Json:
        """Carries one request out and returns the members of its answer.

        Raises:
            Refused: with the error that the service documents; nothing has changed then.
        """
        if operation not in self._operations:
            raise Refused("UnknownOperationException", f"no operation {operation!r}")
        self._quotas.check(operation, now=now)
        check(f"{operation}Request", parameters)
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._operations[operation](given, now)

    def store(self, stream: Stream, events: Iterable[tuple[int, str, int]], *, now: int, visible_at: int) -> None:
        """Adds events (timestamp, message, size) that need no checking."""
        stream.rows.extend(
            Row(timestamp, sequence, message, now, visible_at, size, stream.name)
            for (timestamp, message, size), sequence in zip(events, self._sequence, strict=False)
        )

    def find_stream(self, group: str, stream: str) -> Stream:
        """The stream; raises ``Refused`` where the group or the stream is missing."""
        try:
            return self._find_group({"logGroupName": group}).streams[stream]
        except KeyError:
            raise _missing("log stream") from None

    def _find_group(self, parameters: Json) -> Group:
        name, identifier = parameters.get("logGroupName"), parameters.get("logGroupIdentifier")
        if (name is None) == (identifier is None):
            raise invalid("Give either logGroupName or logGroupIdentifier, and not both.")
        name = name or str(identifier).removeprefix(_ARN).removesuffix(":*")
        found = self.groups.get(name)
        if found is None:
            raise _missing("log group")
        return found

    # Writing

    def _put_log_events(self, parameters: Json, now: int) -> Json:
        limit = self.options.max_event_bytes
        batch = check_batch(parameters["logEvents"], max_event_bytes=limit)
        group = self._find_group(parameters)
        stream = self.find_stream(group.name, parameters["logStreamName"])
        token = parameters.get("sequenceToken")
        if self.options.enforce_tokens:
            stream.tokens.check(token, batch)
        ages = check_ages(batch.timestamps, now=now, retention_days=group.retention_days)
        if self.options.poison and any(map(self.options.poison, batch.messages)):
            raise Refused("InvalidParameterException", "Invalid log event.", violation=False)
        accepted = slice(ages.start, ages.end)
        columns = batch.timestamps, batch.messages, batch.sizes
        events = zip(*(column[accepted] for column in columns), strict=True)
        delay_ms = int(self.options.visibility_delay * SECOND_MS)
        self.store(stream, events, now=now, visible_at=now + delay_ms)
        answer: Json = {}
        if self.options.enforce_tokens or self.options.issue_tokens:
            stream.tokens.advance(token, batch, self._upload_tokens.next())
            answer["nextSequenceToken"] = stream.tokens.expected
        if rejected := ages.rejected():
            answer["rejectedLogEventsInfo"] = rejected
        return answer

    # Groups and streams

    def _create_log_group(self, parameters: Json, now: int) -> Json:
        name = parameters["logGroupName"]
        check_new_group_name(name)
        if name in self.groups:
            raise _exists("log group")
        self.groups[name] = Group(
            name,
            now,
            parameters.get("logGroupClass", "STANDARD"),
            parameters.get("kmsKeyId"),
            dict(parameters.get("tags", {})),
        )
        return {}

    def _delete_log_group(self, parameters: Json, now: int) -> Json:
        del self.groups[self._find_group(parameters).name]
        return {}

    def _create_log_stream(self, parameters: Json, now: int) -> Json:
        streams, name = self._find_group(parameters).streams, parameters["logStreamName"]
        if name in streams:
            raise _exists("log stream")
        streams[name] = Stream(name, now)
        return {}

    def _delete_log_stream(self, parameters: Json, now: int) -> Json:
        group = self._find_group(parameters)
        del group.streams[self.find_stream(group.name, parameters["logStreamName"]).name]
        return {}

    def _put_retention_policy(self, parameters: Json, now: int) -> Json:
        check_retention(parameters["retentionInDays"])
        self._find_group(parameters).retention_days = parameters["retentionInDays"]
        return {}

    def _delete_retention_policy(self, parameters: Json, now: int) -> Json:
        self._find_group(parameters).retention_days = None
        return {}

    def _tag_resource(self, parameters: Json, now: int) -> Json:
        group = self._find_group({"logGroupIdentifier": parameters["resourceArn"]})
        tags = group.tags | parameters["tags"]
        if len(tags) > MAX_TAGS:
            raise Refused("TooManyTagsException", f"A log group has at most {MAX_TAGS} tags.")
        group.tags = tags
        return {}

    def _list_tags_for_resource(self, parameters: Json, now: int) -> Json:
        group = self._find_group({"logGroupIdentifier": parameters["resourceArn"]})
        return {"tags": group.tags}

    def _describe_log_groups(self, parameters: Json, now: int) -> Json:
        prefix, part = (parameters.get(f"logGroupName{end}") for end in ("Prefix", "Pattern"))
        if prefix is not None and part is not None:
            raise invalid("Give either logGroupNamePrefix or logGroupNamePattern, and not both.")
        log_class = parameters.get("logGroupClass")
        found = {
            group.name: _describe_group(group)
            for name, group in sorted(self.groups.items())
            if name.startswith(prefix or "")
            and (part or "").lower() in name.lower()
            and log_class in (None, group.log_class)
        }
        return self._describe("logGroups", found, parameters, now)

    def _describe_log_streams(self, parameters: Json, now: int) -> Json:
        group = self._find_group(parameters)
        prefix = parameters.get("logStreamNamePrefix")
        by_time = parameters.get("orderBy") == "LastEventTime"
        if by_time and prefix is not None:
            raise invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")

        def order(stream: Stream) -> tuple[int, str]:
            last = stream.sorted_rows()[-1].timestamp if by_time and stream.rows else 0
            return last, stream.name

        matching = [s for s in group.streams.values() if s.name.startswith(prefix or "")]
        matching.sort(key=order, reverse=parameters.get("descending", False))
        found = {stream.name: _describe_stream(group, stream) for stream in matching}
        return self._describe("logStreams", found, parameters, now)

    def _describe(self, member: str, found: dict[str, Json], parameters: Json, now: int) -> Json:
        """One page of what was found; a page token remembers the names already listed."""
        listed: object = frozenset()
        scope = f"{member} {parameters.get('logGroupName')}"
        if token := parameters.get("nextToken"):
            _, listed = self._page_tokens.find(token, (scope,), now=now)
        assert isinstance(listed, frozenset)
        left = [name for name in found if name not in listed]
        page = left[: parameters.get("limit", DESCRIBE_PAGE)]
        answer: Json = {member: [found[name] for name in page]}
        if len(left) > len(page):
            answer["nextToken"] = self._page_tokens.issue(scope, listed | set(page), now=now)
        return answer

    # Reading

    def _get_log_events(self, parameters: Json, now: int) -> Json:
        group = self._find_group(parameters)
        stream = self.find_stream(group.name, parameters["logStreamName"])
        read = Read(self.options, self._page_tokens, parameters, now)
        return get_log_events(group, stream, read)

    def _filter_log_events(self, parameters: Json, now: int) -> Json:
        group = self._find_group(parameters)
        read = Read(self.options, self._page_tokens, parameters, now)
        return filter_log_events(group, read)


def _describe_group(group: Group) -> Json:
    described = {
        "logGroupName": group.name,
        "creationTime": group.created,
        "arn": f"{_ARN}{group.name}:*",
        "logGroupArn": f"{_ARN}{group.name}",
        "logGroupClass": group.log_class,
        "metricFilterCount": 0,
        "storedBytes": 0,
    }
    if group.retention_days is not None:
        described["retentionInDays"] = group.retention_days
    if group.kms_key_id is not None:
        described["kmsKeyId"] = group.kms_key_id
    return described


def _describe_stream(group: Group, stream: Stream) -> Json:
    described = {
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "arn": f"{_ARN}{group.name}:log-stream:{stream.name}",
        "storedBytes": 0,
    }
    if rows := stream.sorted_rows():
        described["firstEventTimestamp"] = rows[0].timestamp
        described["lastEventTimestamp"] = rows[-1].timestamp
        described["lastIngestionTime"] = stream.rows[-1].ingestion_time
    if stream.tokens.expected is not None:
        described["uploadSequenceToken"] = stream.tokens.expected
    return described


def _missing(what: str) -> Refused:
    message = f"The specified {what} does not exist."
    return Refused("ResourceNotFoundException", message, violation=False)


def _exists(what: str) -> Refused:
    message = f"The specified {what} already exists"
    return Refused("ResourceAlreadyExistsException", message, violation=False)
