"""The command line: verbs, exit statuses, and what is said on which stream."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import cloudwatch_handler
from cloudwatch_handler.cli import cli
from tests.strict_service import Reset, StrictService, closed_port

GROUP, STREAM = "my-app", "web-1"
PROGRAM = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv[0] = 'program'; "
MAIN = "from cloudwatch_handler.__main__ import main; main()"


@pytest.fixture(autouse=True)
def _account(monkeypatch: pytest.MonkeyPatch) -> None:
    """The credentials of the strict service, and a region."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def run(*arguments: str, data: bytes = b"") -> Result:
    """Runs a command in this process."""
    return CliRunner().invoke(cli, arguments, input=data)


def send(service: StrictService, *arguments: str, data: bytes = b"") -> Result:
    """Sends to a stream of the service."""
    return run("send", "--endpoint-url", service.url, GROUP, STREAM, *arguments, data=data)


def start(*arguments: str, before: str = "", stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Starts the command as a process of its own, with a pipe as its standard input."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM + before + MAIN, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


# -- the command ------------------------------------------------------------------------------------------------------


def test_every_verb_takes_the_options_of_the_connection() -> None:
    """Endpoint, region and profile can be named everywhere."""
    assert set(cli.commands) >= {"demo", "send", "spool"}
    for command in cli.commands.values():
        options = {
            name for parameter in command.params for name in parameter.opts if isinstance(parameter, click.Option)
        }
        assert {"--endpoint-url", "--region", "--profile"} <= options


def test_it_says_its_version() -> None:
    """That of the package."""
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.split()[-1] == cloudwatch_handler.__version__


@pytest.mark.parametrize("module", ["click", "rich"])
def test_without_click_or_rich_it_says_what_to_install(module: str) -> None:
    """The exit status is 2, and there is no traceback; the package itself needs neither."""
    process = start("demo", before=f"sys.modules[{module!r}] = None; import cloudwatch_handler; ")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (2, b"")
    assert stderr.decode() == (
        f"cloudwatch-handler: {module} is not installed; pip install 'cloudwatch_handler[cli,local]' brings it\n"
    )


def test_another_module_that_is_missing_is_not_explained_away() -> None:
    """Only what an extra brings is; the rest is a defect, with its traceback."""
    process = start("demo", before="sys.modules['cloudwatch_handler.lines'] = None; ")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"Traceback" in stderr
    assert b"pip install" not in stderr


# -- send -------------------------------------------------------------------------------------------------------------


def test_send_delivers_the_lines_of_a_file_and_says_nothing(service: StrictService, tmp_path: Path) -> None:
    """Into a group and a stream that it creates."""
    path = tmp_path / "app.log"
    path.write_bytes("ü %s\r\nb".encode())
    result = send(service, str(path))
    assert (result.exit_code, result.output) == (0, "")
    assert service.messages(GROUP, STREAM) == ["ü %s", "b"]
    assert service.violations == []


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_send_reads_the_standard_input_where_no_file_is_named(
    service: StrictService, arguments: tuple[str, ...]
) -> None:
    """As many programs do, also under the name of a hyphen."""
    result = send(service, *arguments, data=b"a\nb\n")
    assert (result.exit_code, result.output) == (0, "")
    assert service.messages(GROUP, STREAM) == ["a", "b"]


def test_send_takes_names_as_they_are(service: StrictService) -> None:
    """Braces are no fields of a template."""
    result = run("send", "--endpoint-url", service.url, GROUP, "{uuid}", data=b"a\n")
    assert (result.exit_code, result.output) == (0, "")
    assert service.messages(GROUP, "{uuid}") == ["a"]


def test_send_mentions_empty_lines(service: StrictService) -> None:
    """They are no failure: the service takes none."""
    result = send(service, data=b"a\n\n\r\nb\n")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        "send: 2 of 2 events delivered; 2 empty lines left out: CloudWatch Logs takes no empty message\n"
    )


def test_send_fails_when_a_line_is_rejected(service: StrictService) -> None:
    """The exit status is 1, and one line says which and why."""
    service.poison = "bad".__eq__
    result = send(service, data=b"a\nbad\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("send: 1 of 2 events delivered; 1 rejected (invalid); PutLogEvents was refused")
    assert result.stderr.count("\n") == 1


def test_send_fails_when_nothing_gets_through() -> None:
    """After the time that it was given, and with the reason."""
    with closed_port() as url:
        result = run("send", "--endpoint-url", url, "--timeout", "0.3", GROUP, STREAM, data=b"a\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("send: 0 of 1 event delivered; 1 dropped (closed); PutLogEvents did not get")
    assert result.stderr.count("\n") == 1


def test_send_gets_over_a_failure(service: StrictService) -> None:
    """A service that comes back in time is no reason to say anything."""
    service.create_log_stream(GROUP, STREAM)
    service.inject(Reset(), times=2)
    result = send(service, data=b"a\n")
    assert (result.exit_code, result.output) == (0, "")
    assert service.messages(GROUP, STREAM) == ["a"]


def test_send_sets_the_retention_of_a_group_that_it_creates(service: StrictService) -> None:
    """Or the group would keep its events, and cost, for ever."""
    assert send(service, "--retention-days", "14", data=b"a\n").exit_code == 0
    (group,) = service.client().describe_log_groups()["logGroups"]
    assert group["retentionInDays"] == 14


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((GROUP,), "STREAM"),
        (("a b", STREAM), "GROUP must be"),
        ((GROUP, "a:b"), "STREAM must be"),
        (("aws/x", STREAM), "must not start with 'aws/'"),
        ((GROUP, STREAM, "missing.log"), "missing.log"),
        ((GROUP, STREAM, os.curdir), "directory"),
        ((GROUP, STREAM, "--retention-days", "2"), "--retention-days"),
        ((GROUP, STREAM, "--timeout", "0"), "--timeout"),
        ((GROUP, STREAM, "--timeout", "nan"), "nan"),
        ((GROUP, STREAM, "--endpoint-url", "nowhere"), "Invalid endpoint: nowhere"),
        ((GROUP, STREAM, "--profile", "missing"), "missing"),
    ],
)
def test_bad_usage_is_told_at_once(arguments: tuple[str, ...], text: str) -> None:
    """The exit status is 2, as for every command; no request is made, and nothing is waited for."""
    result = run("send", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in result.stderr


def test_the_region_can_be_named(service: StrictService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one there is no client."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "region" in send(service, data=b"a\n").stderr
    assert send(service, "--region", "eu-central-1", data=b"a\n").exit_code == 0
    assert "/eu-central-1/" in service.requests[0].headers["authorization"]


@pytest.mark.parametrize("verb", [("send", GROUP, STREAM), ("demo", "-"), ("spool", os.curdir, "--send")])
def test_missing_credentials_are_told_at_once(
    service: StrictService, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    """A program that runs waits for them; who types a command has made a mistake."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    result = run(*verb, "--endpoint-url", service.url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "There are no credentials. Give --profile, or set AWS_ACCESS_KEY_ID" in result.stderr


def test_the_profile_can_be_named(service: StrictService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its credentials take the place of those in the environment."""
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = AKIDMINE\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert send(service, "--profile", "mine", data=b"a\n").exit_code == 0
    assert "Credential=AKIDMINE/" in service.requests[0].headers["authorization"]


# -- send as a process ------------------------------------------------------------------------------------------------


def test_ctrl_c_delivers_what_was_read(service: StrictService) -> None:
    """The exit status is that of an interrupted program, and one line says how far it came."""
    process = start("send", "--endpoint-url", service.url, GROUP, STREAM)
    assert process.stdin
    process.stdin.write(b"a\nb\n")
    process.stdin.flush()
    assert service.wait_for(lambda: service.messages(GROUP, STREAM) == ["a", "b"], timeout=60)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130  # although more lines may come: the pipe is open
    stdout, stderr = process.communicate()
    assert stdout == b""
    assert stderr == b"send: interrupted after 2 lines, 2 of 2 events delivered\n"


def test_a_failure_is_one_line_in_a_pipe(service: StrictService) -> None:
    """What the package says about itself on the way is for a terminal."""
    service.poison = "bad".__eq__
    process = start("send", "--endpoint-url", service.url, GROUP, STREAM)
    stdout, stderr = process.communicate(b"\nbad\n", timeout=60)
    assert (process.returncode, stdout) == (1, b"")
    assert stderr.startswith(b"send: 0 of 1 event delivered; 1 empty line left out")
    assert stderr.count(b"\n") == 1


def test_progress_is_shown_on_a_terminal(service: StrictService, tmp_path: Path) -> None:
    """On stderr, so that it goes into no pipe; and there it stays silent (see the other tests)."""
    path = tmp_path / "app.log"
    path.write_bytes(b"a\nb\n")
    terminal, stderr = pty.openpty()
    process = start("send", "--endpoint-url", service.url, GROUP, STREAM, str(path), stderr=stderr)
    os.close(stderr)
    stdout, _ = process.communicate(timeout=60)
    shown = os.read(terminal, 65_536).decode()
    os.close(terminal)
    assert (process.returncode, stdout) == (0, b"")
    assert "sending" in shown
    assert "2 delivered, 0 waiting" in shown
