"""The demonstration, from the command line down: what it shows, and that it finds what is not as it should be."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cloudwatch_handler import Statistics
from cloudwatch_handler.cli import cli
from cloudwatch_handler.demo import LOG_GROUP_NAME, Difference, Endpoint, Outcome, first_difference, run
from cloudwatch_handler.event import MAX_MESSAGE_SIZE
from cloudwatch_handler.shipping import Shipment
from tests.strict_service import Error, Reset, StrictService, closed_port


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """The credentials of the strict service."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def demo(*arguments: str, data: bytes = b"") -> Result:
    """Runs the verb in this process."""
    return CliRunner().invoke(cli, ["demo", *arguments], input=data)


def strict_demo(service: StrictService, data: bytes) -> Result:
    """Runs it with the strict service as the endpoint."""
    return demo("--endpoint-url", service.url, "--region", "us-east-1", "-", data=data)


def figure(result: Result, name: str) -> str:
    """A value of the table."""
    (row,) = [line for line in result.stdout.splitlines() if line.startswith(f"│ {name} ")]
    return row.split("│")[2].strip()


def test_the_sample_comes_back_as_it_is() -> None:
    """Without a file, an account or a word on stderr."""
    result = demo()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("╭")
    assert result.stdout.endswith("\n200 lines sent and read back: no difference.\n")
    figures = {name: figure(result, name) for name in ("accepted", "delivered", "rejected", "dropped", "batches")}
    assert figures == {"accepted": "200", "delivered": "200", "rejected": "0", "dropped": "0", "batches": "1"}
    before, after = (int(figure(result, name).replace(",", "")) for name in ("before gzip", "after gzip"))
    assert 0 < after < before


def test_the_lines_of_a_file_come_back_but_for_empty_ones(tmp_path: Path) -> None:
    """Empty lines are rejected, which is expected and said; everything else is a line as it is."""
    path = tmp_path / "app.log"
    path.write_bytes("ü %s {x}\r\n\na\rb\n\r\n \n".encode() + b"\xff\xfe")
    result = demo(str(path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert (figure(result, "accepted"), figure(result, "delivered"), figure(result, "rejected")) == ("6", "4", "2")
    assert "│ 2 empty " in result.stdout
    assert "6 lines sent and read back: no difference, but for 2 empty lines: CloudWatch Logs" in result.stdout


@pytest.mark.parametrize(("data", "verdict"), [(b"", "0 lines sent"), (b"\n\r\n", "2 lines sent")])
def test_where_nothing_is_to_be_stored_nothing_is_missing(data: bytes, verdict: str) -> None:
    """There is not even a stream."""
    result = demo("-", data=data)
    assert (result.exit_code, result.stderr) == (0, "")
    assert verdict in result.stdout


def test_a_line_that_is_too_long_for_an_event_comes_back_in_parts() -> None:
    """They are compared with what the line must become."""
    result = demo("-", data="ß".encode() * MAX_MESSAGE_SIZE + b"\nnext\n")
    assert result.exit_code == 0
    assert figure(result, "accepted") == "3"
    assert "2 lines sent and read back: no difference." in result.stdout


def test_settings_of_the_machine_are_neither_used_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No profile, no endpoint, no proxy of the environment comes between; afterwards all of it is there again."""
    with closed_port() as url:
        for name, value in {"AWS_PROFILE": "missing", "AWS_ENDPOINT_URL": url, "HTTP_PROXY": url}.items():
            monkeypatch.setenv(name, value)
        before = dict(os.environ)
        requests = logging.getLogger("werkzeug")
        monkeypatch.setattr(requests, "level", logging.DEBUG)
        assert demo().exit_code == 0
        assert dict(os.environ) == before
        assert requests.level == logging.DEBUG


@pytest.mark.usefixtures("account")
def test_another_endpoint_can_be_named(service: StrictService) -> None:
    """Then that one has the lines."""
    result = strict_demo(service, b"a\nb\n")
    assert result.exit_code == 0
    assert {request.parameters["logGroupName"] for request in service.requests} == {LOG_GROUP_NAME}
    assert service.violations == []


@pytest.mark.usefixtures("account")
def test_a_line_that_is_missing_is_found(service: StrictService) -> None:
    """The first one that differs is shown, as sent and as stored, and why it may be; the exit status is 1."""
    service.poison = "bad".__eq__
    result = strict_demo(service, b"a\n\nbad\nc\n")
    assert result.exit_code == 1
    assert "line 3 differs\n  sent:   'bad'\n  stored: 'c'\n2 of 3 events delivered; 1 empty" in result.stdout
    assert "1 rejected (invalid); PutLogEvents was refused as invalid" in result.stdout


@pytest.mark.usefixtures("account")
def test_an_event_that_the_ledger_does_not_know_is_found(service: StrictService) -> None:
    """A batch whose answer is lost is stored twice by a service without upload tokens."""
    service.inject(Reset(stored=True), skip=1)  # the first request finds no stream
    result = strict_demo(service, b"a\n")
    assert result.exit_code == 1
    assert "line 2 differs\n  sent:   nothing\n  stored: 'a'\n1 of 1 event delivered" in result.stdout


@pytest.mark.usefixtures("account")
def test_an_endpoint_that_does_not_let_read_is_an_error(service: StrictService) -> None:
    """In one line, without a traceback."""
    service.inject(Error("AccessDeniedException", 400, "no"), operation="GetLogEvents")
    result = strict_demo(service, b"a\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: GetLogEvents was not permitted (AccessDeniedException: no)\n"


@pytest.mark.usefixtures("account")
def test_progress_goes_from_nothing_to_everything(service: StrictService) -> None:
    """Delivery is the first half, reading back the second."""
    shown: list[tuple[int, str]] = []
    run(["a", "", "c"], Endpoint(service.url, "us-east-1"), lambda done, words: shown.append((done, words)))
    assert [done for done, _ in shown] == sorted(done for done, _ in shown)
    assert list(dict.fromkeys(words for _, words in shown)) == ["delivering", "reading back", "done"]
    assert shown[-1] == (6, "done")


@pytest.mark.parametrize(
    ("lines", "stored", "difference"),
    [
        ([], [], None),
        (["a", "", "b"], ["a", "b"], None),
        (["", ""], [], None),
        (["ß" * MAX_MESSAGE_SIZE], ["ß" * (MAX_MESSAGE_SIZE // 2)] * 2, None),
        (["a", "", "b"], ["a", "c"], Difference(3, "b", "c")),
        (["a", "b"], ["a"], Difference(2, "b", None)),
        (["a", ""], ["a", "a"], Difference(3, None, "a")),
        (["a"], ["a", "", "b"], Difference(2, None, "")),
        (["a", "b"], ["b", "a"], Difference(1, "a", "b")),
        (["a "], ["a"], Difference(1, "a ", "a")),
    ],
)
def test_the_first_difference_is_named_by_the_line_of_the_file(
    lines: list[str], stored: list[str], difference: Difference | None
) -> None:
    """Empty lines count as lines, and are expected to be missing."""
    assert first_difference(lines, stored) == difference


@pytest.mark.parametrize(
    ("sent", "stored", "texts"),
    [
        ("b", None, ("'b'", "nothing")),
        (None, "c", ("nothing", "'c'")),
        ("é", "e\u0301", (r"'\xe9'", r"'e\u0301'")),
        ("x" * 1000 + "a", "x" * 1000 + "b", ("..." + repr("x" * 30 + "a"), "..." + repr("x" * 30 + "b"))),
        ("a" + "x" * 1000, "b", (repr("a" + "x" * 59) + "...", "'b'")),
        ("x" * 100, "x" * 50, ("..." + repr("x" * 60) + "...", "..." + repr("x" * 30))),
    ],
)
def test_a_difference_shows_the_place_where_it_begins(
    sent: str | None, stored: str | None, texts: tuple[str, str]
) -> None:
    """However long the line is, and also where both look the same."""
    assert str(Difference(17, sent, stored)) == "line 17 differs\n  sent:   {}\n  stored: {}".format(*texts)


@pytest.mark.parametrize(
    ("ledger", "end", "stored", "difference", "verdict"),
    [
        (Statistics(accepted=2, delivered=2), "complete", 2, None, "2 lines sent and read back: no difference."),
        (Statistics(accepted=2, delivered=2), "complete", 2, Difference(1, "a", "b"), "line 1 differs"),
        (Statistics(accepted=2, delivered=1, dropped=1), "complete", 2, None, "ledger says: 1 of 2 events"),
        (Statistics(accepted=2, delivered=2), "interrupted", 2, None, "is what was sent: interrupted after 2 lines"),
        (Statistics(accepted=3, delivered=3), "complete", 2, None, "ledger says: 3 of 3 events"),
    ],
)
def test_only_no_difference_and_a_ledger_that_agrees_are_a_success(
    ledger: Statistics, end: str, stored: int, difference: Difference | None, verdict: str
) -> None:
    """A handler that stores the right thing and counts the wrong one has failed, too."""
    outcome = Outcome(Shipment(2, end, ledger), 0.1, stored, difference)
    assert outcome.succeeded == ("no difference" in verdict)
    assert verdict in str(outcome)


def test_after_ctrl_c_what_was_sent_is_compared() -> None:
    """What was read is delivered, and what was not is no difference; the exit status is that of an interrupted one."""

    def interrupt(record: logging.LogRecord) -> bool:
        if record.getMessage() == "b":
            signal.raise_signal(signal.SIGINT)
        return True

    logger = logging.getLogger("demo")
    logger.addFilter(interrupt)
    try:
        result = demo("-", data=b"a\nb\nc\n")
    finally:
        logger.removeFilter(interrupt)
    assert result.exit_code == 130
    assert result.stdout.endswith("is what was sent: interrupted after 2 lines, 2 of 2 events delivered.\n")


def test_a_profile_has_no_meaning_for_the_simulation() -> None:
    """An option that would do nothing is an error."""
    result = demo("--profile", "mine")
    assert result.exit_code == 2
    assert "--profile" in result.stderr


def test_it_runs_as_a_module_with_warnings_as_errors() -> None:
    """A process of its own says nothing but the result."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "cloudwatch_handler", "demo"], capture_output=True, check=False
    )
    assert (process.returncode, process.stderr) == (0, b"")
    assert "200 lines sent and read back: no difference." in process.stdout.decode()


@pytest.mark.parametrize("module", ["moto", "flask", "flask_cors", "werkzeug"])
def test_without_moto_it_says_what_to_install(module: str) -> None:
    """The exit status is 2, and there is no traceback."""
    code = f"import sys; sys.modules['{module}'] = None; sys.argv[1:] = ['demo']; import runpy; "
    code += "runpy.run_module('cloudwatch_handler', run_name='__main__')"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == (
        f"cloudwatch-handler: {module} is not installed; pip install 'cloudwatch_handler[cli,local]' brings it\n"
    )
