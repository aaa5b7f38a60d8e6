"""Creating what is missing: never unasked, never twice, and no event waits for a retention policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from cloudwatch_handler import errors
from cloudwatch_handler.client import CloudWatchLogs
from cloudwatch_handler.delivery import PutResult
from cloudwatch_handler.event import Destination, Event
from cloudwatch_handler.provision import FINISH_ATTEMPTS, Provisioner
from cloudwatch_handler.source import ClientSource
from tests.strict_service import Error, StrictService

WEB = Destination("my-app", "web-1")


def error_of(kind: type[errors.ServiceError], operation: str = "CreateLogStream") -> errors.ServiceError:
    """An error of this kind."""
    return kind(operation, "Code")


class Service:
    """Groups and streams in memory, and a list of what was asked; ``errors`` come first, by operation."""

    def __init__(self, **failures: Sequence[errors.ServiceError | None]) -> None:
        self.failures = {operation: list(queue) for operation, queue in failures.items()}
        self.groups: set[str] = set()
        self.calls: list[tuple[str, object]] = []

    def _call(self, operation: str, argument: object) -> None:
        self.calls.append((operation, argument))
        queue = self.failures.get(operation)
        if queue and (error := queue.pop(0)) is not None:
            raise error

    def create_log_stream(self, destination: Destination) -> None:
        """Needs its group."""
        self._call("create_log_stream", destination)
        if destination.log_group_name not in self.groups:
            raise error_of(errors.NotFound)

    def create_log_group(self, name: str) -> None:
        """Makes it."""
        self._call("create_log_group", name)
        self.groups.add(name)

    def put_retention_policy(self, name: str, days: int) -> None:
        """Remembers it."""
        self._call("put_retention_policy", (name, days))

    def put_log_events(self, destination: Destination, events: Sequence[Event], token: str | None) -> PutResult:
        """No business of the provisioner's."""
        raise AssertionError

    def upload_token(self, destination: Destination) -> tuple[str | None, int]:
        """No business of the provisioner's."""
        raise AssertionError


def provisioner(service: Service, *, group: bool = True, stream: bool = True, days: int | None = None) -> Provisioner:
    """One that may create both, unless said otherwise."""
    return Provisioner(service, create_log_group=group, create_log_stream=stream, retention_days=days)


# Creating


def test_nothing_is_done_unasked() -> None:
    """Neither by making it nor after a delivery: logs:PutLogEvents alone is enough."""
    service = Service()
    provision = provisioner(service, days=7)
    assert provision.finish("my-app") is None
    assert provision.retention_days("my-app") is None
    assert service.calls == []


def test_a_missing_stream_is_created_in_its_group() -> None:
    """With a single call where the group exists; its retention is not our business."""
    service = Service()
    service.groups.add("my-app")
    provision = provisioner(service, days=7)
    assert provision.create(WEB) is None
    assert provision.finish("my-app") is None
    assert service.calls == [("create_log_stream", WEB)]


def test_a_missing_group_is_created_first() -> None:
    """Only after the service said that it is missing."""
    service = Service()
    assert provisioner(service).create(WEB) is None
    assert service.calls == [("create_log_stream", WEB), ("create_log_group", "my-app"), ("create_log_stream", WEB)]


def test_another_process_may_create_the_stream_first() -> None:
    """That is success."""
    service = Service(create_log_stream=[error_of(errors.AlreadyExists)])
    assert provisioner(service).create(WEB) is None
    assert len(service.calls) == 1


def test_another_process_may_create_both_first() -> None:
    """Also between our calls; the group's retention is then the other's business."""
    raced = error_of(errors.AlreadyExists)
    service = Service(create_log_stream=[error_of(errors.NotFound), raced], create_log_group=[raced])
    provision = provisioner(service, days=7)
    assert provision.create(WEB) is None
    assert provision.finish("my-app") is None
    assert [operation for operation, _ in service.calls] == [
        "create_log_stream",
        "create_log_group",
        "create_log_stream",
    ]


@pytest.mark.parametrize("code", ["ResourceAlreadyExistsException", "OperationAbortedException"])
@pytest.mark.parametrize("operation", ["CreateLogGroup", "CreateLogStream"])
def test_a_lost_race_is_success_at_the_service(code: str, operation: str) -> None:
    """By both of the codes that the service has for it."""
    with StrictService() as service:
        service.create_log_stream(*WEB)
        service.inject(Error(code), operation)
        if operation == "CreateLogGroup":
            service.inject(Error("ResourceNotFoundException"), "CreateLogStream")
        logs = CloudWatchLogs(ClientSource(service.client()))
        assert Provisioner(logs, create_log_group=True, create_log_stream=True, retention_days=7).create(WEB) is None


@pytest.mark.parametrize("kind", [errors.Throttled, errors.Denied, errors.Unavailable, errors.InvalidRequest])
@pytest.mark.parametrize("operation", ["create_log_stream", "create_log_group"])
def test_an_error_is_returned(operation: str, kind: type[errors.ServiceError]) -> None:
    """Not raised, and nothing more is tried; the next attempt may succeed."""
    problem = error_of(kind)
    service = Service(**{operation: [problem]})
    provision = provisioner(service)
    assert provision.create(WEB) is problem
    assert service.calls[-1][0] == operation
    assert provision.create(WEB) is None


def test_a_group_that_is_not_there_yet_is_waited_for() -> None:
    """Creating it was said to be under way elsewhere; the stream has to wait for that."""
    missing = error_of(errors.NotFound)
    service = Service(create_log_stream=[missing, missing], create_log_group=[error_of(errors.AlreadyExists)])
    assert provisioner(service).create(WEB) is missing


@pytest.mark.parametrize(
    ("allowed", "groups", "calls", "text"),
    [
        (
            {"stream": False},
            {"my-app"},
            [],
            "CreateLogStream was not permitted (NotCreated: "
            "log stream my-app/web-1 does not exist and create_log_stream is off; create it)",
        ),
        (
            {"group": False},
            set(),
            ["create_log_stream"],
            "CreateLogGroup was not permitted (NotCreated: "
            "log group my-app does not exist and create_log_group is off; create it)",
        ),
    ],
)
def test_what_may_not_be_created_is_named(
    allowed: dict[str, bool], groups: set[str], calls: list[str], text: str
) -> None:
    """With the argument that forbids it; the events wait until somebody creates it."""
    service = Service()
    service.groups |= groups
    problem = provisioner(service, **allowed).create(WEB)
    assert type(problem) is errors.Denied
    assert str(problem) == text
    assert [operation for operation, _ in service.calls] == calls


def test_a_stream_is_created_where_only_the_group_may_not() -> None:
    """One permission does not need the other."""
    service = Service()
    service.groups.add("my-app")
    assert provisioner(service, group=False).create(WEB) is None


# Retention


@pytest.fixture
def created() -> Iterator[tuple[Service, Provisioner]]:
    """A provisioner that has just created its group."""
    service = Service()
    provision = provisioner(service, days=7)
    assert provision.create(WEB) is None
    service.calls.clear()
    return service, provision


def test_a_retention_is_set_after_a_delivery(created: tuple[Service, Provisioner]) -> None:
    """Once, and from then on it is known when events expire."""
    service, provision = created
    assert provision.retention_days("my-app") is None
    assert provision.finish("my-app") is None
    assert provision.finish("my-app") is None
    assert service.calls == [("put_retention_policy", ("my-app", 7))]
    assert provision.retention_days("my-app") == 7


def test_a_retention_is_set_for_its_group_only(created: tuple[Service, Provisioner]) -> None:
    """A delivery to another group has nothing to do with it."""
    service, provision = created
    assert provision.finish("other") is None
    assert service.calls == []
    assert provision.retention_days("other") is None


def test_without_a_retention_none_is_set() -> None:
    """The service's own default stays."""
    service = Service()
    provision = provisioner(service)
    assert provision.create(WEB) is None
    assert provision.finish("my-app") is None
    assert "put_retention_policy" not in [operation for operation, _ in service.calls]


def test_a_retention_that_fails_is_tried_again(created: tuple[Service, Provisioner]) -> None:
    """After the next delivery; it is said once, and nothing expires until it is set."""
    service, provision = created
    service.failures["put_retention_policy"] = [error_of(errors.Throttled), error_of(errors.Denied)]
    for error in (errors.Throttled, type(None)):
        assert isinstance(provision.finish("my-app"), error)
        assert provision.retention_days("my-app") is None
    assert provision.finish("my-app") is None
    assert provision.retention_days("my-app") == 7


def test_a_retention_is_tried_five_times_at_most(created: tuple[Service, Provisioner]) -> None:
    """The first and the last error are returned; events are delivered all the same."""
    service, provision = created
    problems = [error_of(errors.Denied) for _ in range(FINISH_ATTEMPTS)]
    service.failures["put_retention_policy"] = list(problems)
    assert [provision.finish("my-app") for _ in range(8)] == [problems[0], *[None] * 3, problems[4], *[None] * 3]
    assert len(service.calls) == FINISH_ATTEMPTS == 5
    assert provision.retention_days("my-app") is None


def test_a_group_that_is_created_again_gets_its_retention_again(created: tuple[Service, Provisioner]) -> None:
    """Somebody deleted it while we were running."""
    service, provision = created
    assert provision.finish("my-app") is None
    service.groups.clear()
    assert provision.create(WEB) is None
    assert provision.retention_days("my-app") is None
    assert provision.finish("my-app") is None
    assert provision.retention_days("my-app") == 7
    assert [operation for operation, _ in service.calls].count("put_retention_policy") == 2


def test_a_group_that_another_creates_again_has_no_known_retention(created: tuple[Service, Provisioner]) -> None:
    """Nothing may be held to have expired in it."""
    service, provision = created
    assert provision.finish("my-app") is None
    service.groups.clear()
    service.failures["create_log_group"] = [error_of(errors.AlreadyExists)]
    assert type(provision.create(WEB)) is errors.NotFound
    assert provision.retention_days("my-app") is None


def test_the_whole_of_it_at_the_service() -> None:
    """Group, stream and retention, in the order in which they are needed."""
    with StrictService() as service:
        logs: Any = CloudWatchLogs(ClientSource(service.client()))
        provision = Provisioner(logs, create_log_group=True, create_log_stream=True, retention_days=7)
        assert provision.create(WEB) is None
        assert provision.finish("my-app") is None
        operations = [request.operation for request in service.requests]
        assert operations == ["CreateLogStream", "CreateLogGroup", "CreateLogStream", "PutRetentionPolicy"]
        groups = service.client().describe_log_groups()["logGroups"]
        assert [(group["logGroupName"], group["retentionInDays"]) for group in groups] == [("my-app", 7)]
        assert service.violations == []
