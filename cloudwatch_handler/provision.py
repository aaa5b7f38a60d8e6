"""Creating the log group and the log stream, and only after the service said that one is missing.

So that ``logs:PutLogEvents`` alone is enough where both exist, and importing or configuring an application causes no
call at all.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from . import errors
from .event import Destination

if TYPE_CHECKING:
    from .delivery import Service

#: How many deliveries are followed by an attempt to set the retention of a new group.
FINISH_ATTEMPTS = 5


class Provisioner:
    """Creates what is missing, if it may.

    Args:
        service: CloudWatch Logs.
        create_log_group, create_log_stream: whether to create either.
        retention_days: retention of the groups it creates, or None to leave the service's "never expire".
    """

    def __init__(
        self, service: Service, *, create_log_group: bool, create_log_stream: bool, retention_days: int | None
    ) -> None:
        self._service = service
        self._creates_group = create_log_group
        self._creates_stream = create_log_stream
        self._retention_days = retention_days
        self._retention_of: dict[str, int] = {}
        self._unfinished: dict[str, int] = {}  # attempts left to set the retention

    def retention_days(self, log_group_name: str) -> int | None:
        """After how many days the group forgets an event, if this process has set that; otherwise None."""
        return self._retention_of.get(log_group_name)

    def create(self, destination: Destination) -> errors.ServiceError | None:
        """Create the stream, and first its group if that is missing too. Returns the error that prevented it, or None.

        Another process may be doing the same at this moment; that it was faster is success.
        """
        try:
            if not self._creates_stream:
                self._require("CreateLogStream", f"log stream {destination}", "create_log_stream")
            try:
                self._create_stream(destination)
            except errors.NotFound:
                self._create_group(destination.log_group_name)
                self._create_stream(destination)
        except errors.ServiceError as error:
            return error
        return None

    def _create_stream(self, destination: Destination) -> None:
        with suppress(errors.AlreadyExists):
            self._service.create_log_stream(destination)

    def _create_group(self, name: str) -> None:
        if not self._creates_group:
            self._require("CreateLogGroup", f"log group {name}", "create_log_group")
        self._retention_of.pop(name, None)  # that was another group of this name
        try:
            self._service.create_log_group(name)
        except errors.AlreadyExists:
            return
        self._unfinished[name] = FINISH_ATTEMPTS

    def finish(self, log_group_name: str) -> errors.ServiceError | None:
        """Set the retention of a group that this process has created, unless that is done.

        Called after a delivery: no event waits for a retention policy. Returns the error of the first attempt, so that
        it is said once, and of the last; otherwise None.
        """
        attempts = self._unfinished.get(log_group_name)
        if attempts is None or self._retention_days is None:
            return None
        try:
            self._service.put_retention_policy(log_group_name, self._retention_days)
        except errors.ServiceError as error:
            self._unfinished[log_group_name] = attempts - 1
            if attempts > 1:
                return error if attempts == FINISH_ATTEMPTS else None
            del self._unfinished[log_group_name]
            return error
        del self._unfinished[log_group_name]
        self._retention_of[log_group_name] = self._retention_days
        return None

    @staticmethod
    def _require(operation: str, what: str, argument: str) -> None:
        raise errors.Denied(operation, "NotCreated", f"{what} does not exist and {argument} is off; create it")
