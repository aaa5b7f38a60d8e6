"""The command ``cloudwatch-handler``: verbs and exit statuses; what they do is in the modules they call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click
from rich.console import Console

from . import demo as demonstration
from . import shipping
from .display import counts, progress, segments, summary
from .errors import ServiceError
from .event import RETENTION_DAYS
from .handler import CloudWatchHandler
from .lines import Lines, sample
from .source import Boto3Client, ClientSource, has_credentials, known_regions
from .survey import SegmentSummary, survey
from .version import __version__

#: Exit statuses besides 0; bad usage is click's 2.
FAILED = 1
INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Write log lines to Amazon CloudWatch Logs."""


def _connection(command: Command) -> Command:
    """The options that every verb has."""
    for option in (
        click.option("--profile", metavar="NAME", help="Profile of the AWS configuration."),
        click.option("--region", metavar="NAME", help="AWS region."),
        click.option("--endpoint-url", metavar="URL", help="Endpoint to use in place of the region's own."),
    ):
        command = option(command)
    return command


#: How long a verb that delivers waits for what does not move.
_patience = click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait while nothing can be delivered.",
)


def _client(endpoint_url: str | None, region: str | None, profile: str | None) -> Boto3Client:
    """The client that these options mean; a wrong one is told at once, and not after waiting for it to come right."""
    try:
        client = ClientSource(None, profile, region, endpoint_url).make()
        is_account_known = has_credentials(profile)
    except Exception as error:
        hint = " Give --region, or set AWS_DEFAULT_REGION." if type(error).__name__ == "NoRegionError" else ""
        raise click.UsageError(f"{error}{hint}") from error
    if not is_account_known:
        raise click.UsageError("There are no credentials. Give --profile, or set AWS_ACCESS_KEY_ID and "
                               "AWS_SECRET_ACCESS_KEY.")  # fmt: skip
    return client


@cli.command()
@click.argument("file", type=click.File("rb"), required=False)
@_connection
def demo(file: BinaryIO | None, endpoint_url: str | None, region: str | None, profile: str | None) -> None:
    """Send the lines of FILE through the handler, read them back and compare.

    Without FILE it is a sample. Needs no AWS account: CloudWatch Logs is simulated on this machine, unless an endpoint
    is named. Exit status: 0 when exactly the lines came back, 1 when not, 130 after Ctrl-C.
    """
    if profile is not None and endpoint_url is None:
        raise click.UsageError("--profile has no meaning for the simulated endpoint, which needs no credentials.")
    if endpoint_url is None and region is not None and region not in known_regions():
        raise click.UsageError(f"--region must be one of AWS for the simulated endpoint, not {region!r}.")
    lines = sample() if file is None else list(Lines(file))
    with ExitStack() as stack:
        if endpoint_url is None:
            endpoint = stack.enter_context(demonstration.local_endpoint(region))
        else:
            _client(endpoint_url, region, profile)
            endpoint = demonstration.Endpoint(endpoint_url, region, profile)
        show = stack.enter_context(progress("demo", 2 * len(lines)))
        try:
            outcome = demonstration.run(lines, endpoint, show)
        except ServiceError as error:
            raise click.ClickException(str(error)) from error
    Console().print(summary(outcome))
    click.echo(str(outcome))
    if outcome.shipment.end == "interrupted":
        sys.exit(INTERRUPTED)
    sys.exit(0 if outcome.succeeded else FAILED)


@cli.command()
@click.argument("group")
@click.argument("stream")
@click.argument("file", type=click.File("rb"), default="-")
@click.option(
    "--retention-days",
    type=click.Choice([str(days) for days in RETENTION_DAYS]),
    metavar="DAYS",
    help="For the group, if it has to be created.",
)
@_patience
@_connection
def send(
    group: str,
    stream: str,
    file: BinaryIO,
    retention_days: str | None,
    timeout: float,
    endpoint_url: str | None,
    region: str | None,
    profile: str | None,
) -> None:
    """Send the lines of FILE, or of the standard input, to STREAM of GROUP.

    Both are created where they are missing. CloudWatch Logs takes no empty messages, so empty lines are left out. Exit
    status: 0 when every other line was delivered, 1 when not, 130 after Ctrl-C (what was read is delivered first).
    """
    try:
        logger, handler = shipping.open_stream(
            group,
            stream,
            _client(endpoint_url, region, profile),
            patience=timeout,
            retention_days=None if retention_days is None else int(retention_days),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    lines = Lines(file)
    # Whoever types the lines does not want a bar in between.
    with progress("sending", lines.bytes_total, silent=file.isatty()) as show:
        shipment = shipping.ship(
            lines,
            logger,
            handler,
            patience=timeout,
            show=lambda statistics: show(lines.bytes_read, counts(statistics)),
        )
    if shipment.empty or not shipment.arrived:
        click.echo(f"send: {shipment}", err=True)
    if shipment.end == "interrupted":
        sys.exit(INTERRUPTED)
    sys.exit(0 if shipment.arrived else FAILED)


@cli.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--send", "sends", is_flag=True, help="Deliver what dead processes have left.")
@_patience
@_connection
def spool(
    directory: Path, sends: bool, timeout: float, endpoint_url: str | None, region: str | None, profile: str | None
) -> None:
    """List the segments in DIRECTORY, the spool directory of a handler, or deliver them.

    A segment whose owner is alive belongs to a process that runs, and is left to it. Listing changes nothing and needs
    no endpoint. Exit status of --send: 0 when nothing is left but what living processes own, 1 otherwise.
    """
    found = _survey(directory)
    if not sends:
        _show_segments(found)
        return
    try:
        handler = CloudWatchHandler(
            "spool",  # nothing is logged through this handler, and what lies there knows where it goes
            boto3_client=_client(endpoint_url, region, profile),
            spool_directory=directory,
            shutdown_timeout=0,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with progress("sending", sum(segment.events for segment in found if not segment.owner_alive)) as show:
        shipment = shipping.recover(
            handler,
            patience=timeout,
            show=lambda statistics: show(statistics.accepted - statistics.pending, counts(statistics)),
        )
    click.echo(str(shipment))
    sys.exit(0 if shipment.arrived else FAILED)


def _survey(directory: Path) -> list[SegmentSummary]:
    try:
        return list(survey(directory))
    except OSError as error:
        raise click.UsageError(f"{directory}: {error.strerror}") from error


def _show_segments(found: list[SegmentSummary]) -> None:
    if found:
        Console().print(segments(found))
    else:
        click.echo("no segments")
