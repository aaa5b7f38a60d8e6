"""The face towards :mod:`logging`: arguments, wiring, and the few lines that every log call runs through."""

from __future__ import annotations

import logging
import os
import random
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

from . import options
from .buffer import Buffer, Overflow
from .client import CloudWatchLogs, GroupOptions
from .delivery import Delivery, SequenceToken
from .event import (
    EVENT_OVERHEAD,
    LOG_GROUP_CLASSES,
    MAX_BATCH_COUNT,
    MAX_BATCH_SIZE,
    MAX_MESSAGE_SIZE,
    RETENTION_DAYS,
    Oversize,
    encode,
    fit,
)
from .formatter import CloudWatchFormatter
from .ledger import RejectedEvents, Statistics
from .naming import Naming
from .process import begin_again_in_child, driving
from .provision import Provisioner
from .retry import RetryPolicy
from .source import Boto3Client, ClientSource, client_argument
from .spool import Spool
from .waiting import logging_lock, monotonic
from .worker import DRAIN_COUNT, Worker


class CloudWatchHandler(logging.Handler):
    """Sends log records to Amazon CloudWatch Logs, in batches, from a background thread.

    A log call formats the record and puts it in memory; everything else happens elsewhere. Every argument is a plain
    value, so that the handler can stand in ``logging.config.dictConfig``, in JSON or in YAML. The constructor does no
    network I/O, reads no credentials and starts no thread: that begins with the first record.

    Delivery is at-least-once and in order within a stream: events are kept while the service cannot take them, and
    only overflow, a shutdown that runs out of time, or ``retry.give_up_after`` drops any, which is counted and said.

    Args:
        log_group_name: template, see below.
        log_stream_name: template. Fields of both: ``{machine_name}``, ``{program_name}``, ``{process_id}``,
            ``{thread_name}``, ``{logger_name}``, ``{uuid}``, ``{env[NAME]}``, ``{strftime:%Y-%m-%d}`` (UTC, the time
            of the record). Characters that the service forbids become ``_``.
        level: as for every handler.
        boto3_client: a boto3 ``logs`` client, or a callable without arguments that makes one, or its dotted path; a
            forked child calls it again. None: the handler makes its own, with time-outs that suit it, from the next
            arguments.
        boto3_profile_name, region_name, endpoint_url: as for boto3; None means boto3's own search.
        role_arn: role to assume for the client; None: none.
        send_interval: seconds that the oldest event waits for company before it is sent; 0 sends at once.
        max_batch_count: events a batch may have, at most 10,000 (the service's limit).
        max_batch_size: bytes a batch may have, 26 for each event included, at most 1,048,576 (the service's limit).
        max_message_size: UTF-8 bytes a message may have, at most 1,048,550 (the service's limit).
        oversize: what becomes of a longer one: ``"split"``, ``"truncate"`` or ``"drop"`` (counted as rejected,
            ``too_large``). Cuts fall between characters.
        max_queue_size: bytes of memory that events may take up, those under way included.
        overflow: what gives way beyond that: ``"drop_oldest"``, ``"drop_newest"``, or ``"block"``, which makes the log
            call wait up to ``block_timeout`` seconds first.
        block_timeout: seconds; see ``overflow``.
        sequence_token: upload tokens. ``"auto"`` asks once for each stream and then only while others write to it too;
            ``"cached"`` asks once; ``"describe"`` asks before every put; ``"none"`` never asks and never sends one.
        retry: a :class:`RetryPolicy` or a mapping of its fields; None: its defaults.
        compression: ``"gzip"``, which falls back when the endpoint refuses it, or None.
        create_log_group, create_log_stream: whether to create what the service says is missing.
        log_group_retention_days, log_group_tags, log_group_kms_key_id, log_group_class: for groups that the handler
            creates; None leaves the service's default.
        flush_timeout: seconds that :meth:`flush` takes at most when it is not told.
        shutdown_timeout: seconds that :meth:`close`, and the end of the process, take at most.
        spool_directory: a directory for durable mode: an event is on disk before the log call returns, and survives the
            death of the process; the next handler on that directory delivers it. Made with mode 0700 when it is
            missing. Several processes, and several handlers, may share one. None: memory only.
        max_spool_size: bytes on disk, beyond which events are held in memory only and ``overflow`` applies.
        loss_notice: whether the next batch after a loss begins with an event that says how many events of the stream
            were dropped, why, and from which time. It is no event of the ledger.
        sequence_numbers: not available yet.
        on_rejected: called with a :class:`RejectedEvents` for events that were rejected, on the thread that delivers;
            a callable or its dotted path. What it logs does not come here. None: no call.
        entity: goes into every PutLogEvents as it is; None: none.
        json_serialize_default: for the default formatter, see :class:`CloudWatchFormatter`.
        use_queues: for settings that were written for watchtower; has no effect, records are always queued.

    Raises:
        TypeError, ValueError: an argument breaks its rule; the text names the argument, the rule and the value.
        NotImplementedError: ``sequence_numbers`` was given.
    """

    #: ``logging.shutdown`` need not flush before it closes (Python 3.12 and later ask for this).
    flushOnClose = False

    def __init__(
        self,
        log_group_name: str,
        log_stream_name: str = "{machine_name}/{program_name}/{process_id}",
        *,
        level: int | str = logging.NOTSET,
        boto3_client: Boto3Client | Callable[[], Boto3Client] | str | None = None,
        boto3_profile_name: str | None = None,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        role_arn: str | None = None,
        send_interval: float = 2.0,
        max_batch_count: int = MAX_BATCH_COUNT,
        max_batch_size: int = MAX_BATCH_SIZE,
        max_message_size: int = MAX_MESSAGE_SIZE,
        oversize: Oversize = "split",
        max_queue_size: int = 67_108_864,
        overflow: Overflow = "drop_oldest",
        block_timeout: float = 1.0,
        sequence_token: SequenceToken = "auto",
        retry: RetryPolicy | Mapping[str, float | None] | None = None,
        compression: Literal["gzip"] | None = "gzip",
        create_log_group: bool = True,
        create_log_stream: bool = True,
        log_group_retention_days: int | None = None,
        log_group_tags: Mapping[str, str] | None = None,
        log_group_kms_key_id: str | None = None,
        log_group_class: str | None = None,
        flush_timeout: float = 30.0,
        shutdown_timeout: float = 10.0,
        spool_directory: str | os.PathLike[str] | None = None,
        max_spool_size: int = 1_073_741_824,
        loss_notice: bool = True,
        sequence_numbers: bool = False,
        on_rejected: Callable[[RejectedEvents], object] | str | None = None,
        entity: Mapping[str, object] | None = None,
        json_serialize_default: Callable[[object], object] | str | None = None,
        use_queues: bool = True,
    ) -> None:
        if options.flag("sequence_numbers", sequence_numbers):
            raise NotImplementedError("sequence_numbers is not available yet, so True would do nothing")
        spool_path = options.directory("spool_directory", spool_directory)
        spool_size = options.integer("max_spool_size", max_spool_size, 1)
        options.flag("use_queues", use_queues)

        self._names = (log_group_name, log_stream_name)
        self._naming = Naming(*self._names)
        size = options.integer("max_batch_size", max_batch_size, EVENT_OVERHEAD + 4, MAX_BATCH_SIZE)
        limit = options.integer("max_message_size", max_message_size, 4, MAX_MESSAGE_SIZE)
        self._event_limit = min(limit + EVENT_OVERHEAD, size)
        self._oversize = options.choice("oversize", oversize, ("split", "truncate", "drop"))
        self._flush_timeout = options.seconds("flush_timeout", flush_timeout)
        default = options.function("json_serialize_default", json_serialize_default)

        source = ClientSource(
            boto3_client=client_argument(options.named(boto3_client), "put_log_events"),
            boto3_profile_name=options.text("boto3_profile_name", boto3_profile_name),
            region_name=options.region("region_name", region_name),
            endpoint_url=options.url("endpoint_url", endpoint_url),
            role_arn=options.role("role_arn", role_arn),
        )
        group = GroupOptions(
            options.tags("log_group_tags", log_group_tags),
            options.text("log_group_kms_key_id", log_group_kms_key_id),
            options.choice("log_group_class", log_group_class, (None, *LOG_GROUP_CLASSES)),
        )
        compression = options.choice("compression", compression, ("gzip", None))
        entity = options.mapping("entity", entity)
        policy = RetryPolicy.of(retry)
        mode = options.choice("sequence_token", sequence_token, ("auto", "describe", "cached", "none"))
        creates_group = options.flag("create_log_group", create_log_group)
        creates_stream = options.flag("create_log_stream", create_log_stream)
        days = options.choice("log_group_retention_days", log_group_retention_days, (None, *RETENTION_DAYS))

        tells_losses = options.flag("loss_notice", loss_notice)

        def make_delivery() -> Delivery:
            service = CloudWatchLogs(source, compression=compression, entity=entity, group=group)
            provisioner = Provisioner(
                service, create_log_group=creates_group, create_log_stream=creates_stream, retention_days=days
            )
            return Delivery(
                service,
                sequence_token=mode,
                retry=policy,
                provisioner=provisioner,
                jitter=random.Random().random,
                loss_notice=tells_losses,
            )

        interval = options.seconds("send_interval", send_interval)
        count = options.integer("max_batch_count", max_batch_count, 1, MAX_BATCH_COUNT)
        memory = options.integer("max_queue_size", max_queue_size, 1)
        policy_of_overflow = options.choice("overflow", overflow, ("drop_oldest", "drop_newest", "block"))

        def make_buffer(spool: Spool | None) -> Buffer:
            return Buffer(
                send_interval=interval,
                max_batch_count=count,
                max_batch_size=size,
                max_queue_size=memory,
                overflow=policy_of_overflow,
                disk=spool,
            )

        block_timeout = options.seconds("block_timeout", block_timeout)
        #: What delivers; for the package's own use.
        self.worker = Worker(
            make_buffer,
            make_delivery,
            None if spool_path is None else lambda: Spool(spool_path, spool_size),
            send_interval=interval,
            # A bound on the intake in proportion to the bound on memory, of which it is not a part.
            drain_count=max(1, min(DRAIN_COUNT, memory // 65_536)),
            shutdown_timeout=options.seconds("shutdown_timeout", shutdown_timeout),
            block_timeout=block_timeout if overflow == "block" else None,
            on_rejected=options.function("on_rejected", on_rejected),
            keeps_deadlines=boto3_client is None,
        )
        self._pid = self.worker.pid
        super().__init__(options.level(level))
        # What filter() would find: nothing to ask, unless filters are added to this list, or a subclass asks itself.
        self._filters: object = self.filters if type(self).filter is logging.Handler.filter else True
        self.formatter = CloudWatchFormatter(json_serialize_default=default)
        # A handler that is thrown away without close() still delivers, but its thread ends.
        weakref.finalize(self, self.worker.retire).atexit = False

    # -- logging.Handler ------------------------------------------------------------------------------------------

    def handle(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override]
        """Filter and emit, without the lock that :class:`logging.Handler` holds over both."""
        try:
            passed: bool | logging.LogRecord = not self._filters or self.filter(record)
        except Exception:
            self.handleError(record)
            return False
        if passed:
            self.emit(record if passed is True else passed)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Format the record and accept it. Never raises, never waits for the network or for a lock held over I/O."""
        try:
            if driving and threading.get_ident() in driving:  # gevent may replace get_ident
                return
            if record.process != self._pid and os.getpid() != self._pid:
                self._begin_in_child()
            destination = self._naming.constant or self._naming.destination(record)
            event = encode(destination, int(record.created * 1000), self.format(record))
            if EVENT_OVERHEAD < event[2] <= self._event_limit:
                self.worker.add(event)
            elif event.size == EVENT_OVERHEAD:
                self.worker.refuse(event, "empty")
            else:
                for part in fit(event, self._event_limit - EVENT_OVERHEAD, self._oversize):
                    self.worker.add(part)
                if self._oversize == "drop":
                    self.worker.refuse(event, "too_large")
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """As :meth:`logging.Handler.handleError`, but a stderr that is closed is no error either."""
        with suppress(Exception):  # there is nobody left to tell
            super().handleError(record)

    def flush(self, timeout: float | None = None) -> bool:  # type: ignore[override]
        """Wait until everything that was accepted before this call has been delivered, rejected or dropped.

        With ``spool_directory`` it is also enough that all of it is on disk, while delivery fails.

        Safe from any thread, in a forked child, in a signal handler, and while ``logging.config`` is at work; there,
        without a timeout, it waits a fraction of a second, and the background thread goes on.

        Args:
            timeout: seconds; None means ``flush_timeout``; 0 only asks.

        Returns:
            True when all of it is settled, False at the timeout.

        Raises:
            TypeError, ValueError: the timeout is no number of seconds.
        """
        if timeout is not None:
            timeout = options.seconds("timeout", timeout)
        self._begin_in_child()
        return self.worker.flush(timeout, self._flush_timeout)

    def close(self) -> None:
        """Flush within ``shutdown_timeout``; what is left stays in the spool, or else is dropped, counted and said.

        A record that comes later starts the handler again, as with :class:`logging.FileHandler`.
        """
        self._begin_in_child()
        began = monotonic()
        self.worker.close()
        # Deregistering takes logging's lock, which another thread may hold for as long as its dictConfig takes.
        left = self.worker.shutdown_timeout - (monotonic() - began)
        with logging_lock(max(0.0, left)) as is_ours:
            if is_ours:
                super().close()

    def recover(self, timeout: float | None = None) -> bool:
        """Deliver at once what dead processes have left in ``spool_directory``, and what is held here.

        Without this call it happens too, in the background, from the first record on.

        Args:
            timeout: seconds; None means ``flush_timeout``.

        Returns:
            True when nothing is left that nobody alive owns, False at the timeout.

        Raises:
            TypeError, ValueError: the timeout is no number of seconds.
        """
        timeout = self._flush_timeout if timeout is None else options.seconds("timeout", timeout)
        self._begin_in_child()
        return self.worker.recover(timeout)

    def statistics(self) -> Statistics:
        """The ledger at this moment."""
        self._begin_in_child()
        return self.worker.statistics()

    def __repr__(self) -> str:
        group, stream = self._names
        return f"<{type(self).__name__} {group}/{stream} ({logging.getLevelName(self.level)})>"

    def _begin_in_child(self) -> None:
        """Where this process is a forked child that comes here first: its own names, and a worker that begins anew."""
        pid = os.getpid()
        if pid == self._pid:
            return
        if self.worker.pid != pid:  # forked behind Python's back: no fork hook ran
            begin_again_in_child()
        with suppress(ValueError):  # a variable of the environment is gone; the parent's names are the best there is
            self._naming = Naming(*self._names)
        self._pid = pid
