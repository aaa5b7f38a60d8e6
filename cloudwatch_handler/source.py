"""Where the boto3 client comes from: the user, or arguments that are plain values."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast

import boto3
import botocore.client
import botocore.config
import botocore.credentials
import botocore.exceptions
import botocore.session

from .deadline import limit_answers

#: Seconds. Short, because a call that hangs must not hold up a process that wants to end.
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0

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
        if self._pid != os.getpid():
            close(client)  # its pooled connections may be the parent's; it opens its own
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
        client = session.client("logs", endpoint_url=self.endpoint_url, config=config)
        limit_answers(client)
        return cast(Boto3Client, client)


def client_argument(client: object, method: str) -> Boto3Client | Callable[[], Boto3Client] | None:
    """The argument ``boto3_client``: a client that has this method, a callable that makes one, or None.

    Raises:
        TypeError: it is none of these.
    """
    if client is None or hasattr(client, method) or callable(client):
        return cast("Boto3Client | Callable[[], Boto3Client] | None", client)
    raise TypeError(f"boto3_client must be a boto3 logs client or a callable that makes one, not {client!r}")


def close(client: Boto3Client | None) -> None:
    """Close the connections of a client of ours, if it is botocore's."""
    if isinstance(client, botocore.client.BaseClient):
        client.close()


def has_credentials(profile_name: str | None) -> bool:
    """Whether boto3 finds credentials, whatever they are worth. May take network I/O."""
    return boto3.session.Session(profile_name=profile_name).get_credentials() is not None


def known_regions() -> list[str]:
    """The regions in which botocore knows CloudWatch Logs."""
    regions: list[str] = boto3.session.Session().get_available_regions("logs")
    return regions
