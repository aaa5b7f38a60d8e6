"""The verb ``spool``: what lies in a spool directory, and its delivery by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cloudwatch_handler.cli import cli
from cloudwatch_handler.directory import Directory
from cloudwatch_handler.segment import Segment
from tests.spools import FOREVER, HERE, append, event, files, leave_behind
from tests.strict_service import StrictService, closed_port


@pytest.fixture(autouse=True)
def _account(monkeypatch: pytest.MonkeyPatch) -> None:
    """The credentials of the strict service, and a region."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spool is."""
    return tmp_path / "spool"


def spool(*arguments: str | Path) -> Result:
    """Runs the verb in this process."""
    return CliRunner().invoke(cli, ["spool", *map(str, arguments)], env={"COLUMNS": "100"})


def rows(result: Result) -> list[list[str]]:
    """The table's rows, as words."""
    return [line.split() for line in result.stdout.splitlines()]


def test_it_lists_each_segment_and_the_sum(path: Path) -> None:
    """Name, whether the owner lives, events that are not settled, bytes, and the oldest event."""
    dead = leave_behind(path, "a", "b", "c", settled=[(0, 0)])
    living = Segment.create(Directory(path), FOREVER)
    append(living, event("d"))
    result = spool(path)
    assert (result.exit_code, result.stderr) == (0, "")
    header, first, second, total = rows(result)
    assert header == ["segment", "owner", "events", "bytes", "oldest", "(UTC)"]
    assert first[:4] == [dead.name, "dead", "2", f"{dead.stat().st_size:,}"]
    assert second[:4] == [f"{living.name}.jsonl", "alive", "1", f"{living.length():,}"]
    assert total[:3] == ["all", "3", f"{dead.stat().st_size + living.length():,}"]
    assert total[3:] == first[4:]
    living.close()


def test_damage_has_a_column_of_its_own_where_there_is_any(path: Path) -> None:
    """It is what a person would look for."""
    file = leave_behind(path, "a", "b")
    file.write_bytes(b"garbage\n" + file.read_bytes())
    header, row = rows(spool(path))
    assert header[-1] == "damaged"
    assert (row[2], row[-1]) == ("2", "1")


def test_it_says_when_there_is_nothing(path: Path) -> None:
    """An empty table would be puzzling."""
    path.mkdir()
    result = spool(path)
    assert (result.exit_code, result.stdout) == (0, "no segments\n")


def test_listing_changes_nothing(path: Path) -> None:
    """Not a byte, and it asks no endpoint."""
    file = leave_behind(path, "a")
    before = file.read_bytes()
    spool(path)
    assert file.read_bytes() == before
    assert files(path) == [file.name]


def test_send_delivers_what_dead_processes_left(service: StrictService, path: Path) -> None:
    """Where each event wants to go; what a living process owns stays its own."""
    leave_behind(path, *range(3))
    leave_behind(path, *range(3, 5))
    living = Segment.create(Directory(path), FOREVER)
    append(living, event("of the living"))
    result = spool(path, "--send", "--endpoint-url", service.url)
    assert (result.exit_code, result.output) == (0, "5 of 5 events delivered\n")
    assert service.messages(*HERE) == ["0", "1", "2", "3", "4"]
    assert files(path) == [f"{living.name}.jsonl"]
    assert service.violations == []
    living.close()


def test_send_leaves_on_disk_what_does_not_get_through(path: Path) -> None:
    """It says so, and why, and fails."""
    file = leave_behind(path, "a", "b")
    with closed_port() as url:
        result = spool(path, "--send", "--timeout", "0.5", "--endpoint-url", url)
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.startswith(
        "stopped, 0 of 2 events delivered; 2 stay on disk; PutLogEvents did not get through"
    )
    assert files(path) == [file.name]


def test_what_is_rejected_is_a_failure(service: StrictService, path: Path) -> None:
    """All is settled, and not all is delivered."""
    service.poison = "bad".__eq__
    leave_behind(path, "a", "bad")
    result = spool(path, "--send", "--endpoint-url", service.url)
    assert result.exit_code == 1
    assert result.stdout.startswith("1 of 2 events delivered; 1 rejected (invalid)")
    assert files(path) == []


@pytest.mark.parametrize("arguments", [(), ("--send", "--endpoint-url", "http://127.0.0.1:9")])
def test_a_directory_that_is_none_is_bad_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A missing one, a file, and a symbolic link, which is never followed."""
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    for name in ("missing", "file", "link"):
        result = spool(tmp_path / name, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert name in result.stderr


def test_a_slow_service_is_waited_for(path: Path) -> None:
    """An answer may take longer than the time between two looks at how far things are."""
    leave_behind(path, "a", "b")
    with StrictService(latency=0.5) as service:
        result = spool(path, "--send", "--endpoint-url", service.url)
        assert (result.exit_code, result.output) == (0, "2 of 2 events delivered\n")
        assert service.messages(*HERE) == ["a", "b"]
