"""Templates: every field, every rule of the service's names, and errors that name the argument."""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudwatch_handler.event import Destination
from cloudwatch_handler.naming import MAX_NAME_LENGTH, NameArgument, NameTemplate, Naming, program_name
from tests.service_model import SHAPES as MODEL

SHAPES = {"log_group_name": MODEL["LogGroupName"], "log_stream_name": MODEL["LogStreamName"]}
BOTH = pytest.mark.parametrize("argument", ["log_group_name", "log_stream_name"])

#: 2026-01-02 03:04:05.25 UTC
CREATED = 1_767_323_045.25


def record(**attributes: object) -> logging.LogRecord:
    """A record with these attributes."""
    return logging.makeLogRecord({"name": "app.db", "threadName": "worker-1", "created": CREATED, **attributes})


def stream(template: str, **attributes: object) -> str:
    """The stream name of a record."""
    return NameTemplate("log_stream_name", template).render(record(**attributes))


def refusal(argument: NameArgument, template: str) -> str:
    """The text with which a template is refused."""
    with pytest.raises(ValueError, match=f"^{argument} ") as caught:
        NameTemplate(argument, template)
    assert repr(template) in str(caught.value)
    return str(caught.value)


# Fields


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("web", "web"),
        ("{logger_name}", "app.db"),
        ("{thread_name}", "worker-1"),
        ("{logger_name:.3}/{thread_name:_>10}", "app/__worker-1"),
        ("{strftime:%Y-%m-%d}", "2026-01-02"),
        ("{strftime:%Y}/{strftime:%m/%d}", "2026/01/02"),
        ("{strftime:%H:%M}", "03_04"),
        ("{strftime}", "2026-01-02 03_04_05.250000+00_00"),
        ("a{{b}}c", "a{b}c"),
        ("{{logger_name}}", "{logger_name}"),
        ("{machine_name}", platform.node().replace(":", "_")),
    ],
)
def test_a_template_gives_a_name(template: str, name: str) -> None:
    """``str.format`` with the fields that the documentation lists."""
    assert stream(template) == name


@pytest.mark.parametrize("spec", ["", ":08d"])
def test_a_name_holds_the_process(spec: str) -> None:
    """Its number, in any form of a number."""
    assert stream(f"{{process_id{spec}}}") == format(os.getpid(), spec[1:])


def test_a_name_holds_the_program() -> None:
    """The script's file name."""
    assert stream("{program_name}") == program_name()


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/srv/app/serve.py", "--port"], "serve.py"),
        (["/usr/bin/gunicorn"], "gunicorn"),
        (["/srv/app/worker/__main__.py"], "worker"),
        (["__main__.py"], "python"),
        (["-c"], "python"),
        (["-m"], "python"),
        (["-"], "python"),
        ([""], "python"),
        ([], "python"),
    ],
)
def test_the_program_is_what_is_running(monkeypatch: pytest.MonkeyPatch, argv: list[str], name: str) -> None:
    """One word, also for a package run with -m, and never nothing."""
    monkeypatch.setattr(sys, "argv", argv)
    assert program_name() == name


def test_a_name_holds_a_variable_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``env[NAME]``, cleaned like everything else."""
    monkeypatch.setenv("STAGE", "blue:green")
    assert stream("app/{env[STAGE]}/{env[STAGE]:.4}") == "app/blue_green/blue"


def test_a_uuid_is_one_for_each_template() -> None:
    """It stays for the life of the template, and the next one gets another."""
    template = NameTemplate("log_stream_name", "{uuid}")
    assert template.render(record()) == template.render(record())
    assert uuid.UUID(template.render(record())) != uuid.UUID(stream("{uuid}"))


def test_time_is_the_records_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the local zone nor the time of rendering; a record from before midnight stays in its day."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        assert stream("{strftime:%d %H}", created=CREATED) == "02 03"
        assert stream("{strftime:%d %H}", created=CREATED - 4 * 3600) == "01 23"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_record_without_a_thread_has_a_name() -> None:
    """``logging.logThreads`` may be off."""
    assert stream("a{thread_name}", threadName=None) == "a"


# Rules


@pytest.mark.parametrize(
    ("argument", "name", "legal"),
    [
        ("log_group_name", "a b:c*d?é\n{{x}}", "a_b_c_d____x_"),
        ("log_group_name", "/aws/lambda/f_1-#.9", "/aws/lambda/f_1-#.9"),
        ("log_stream_name", "a:b*c", "a_b_c"),
        ("log_stream_name", "a\nb\x00c\x7fd\ud800e", "a_b_c_d_e"),
        ("log_stream_name", "a b/é€😀?", "a b/é€😀?"),
    ],
)
def test_forbidden_characters_become_underscores(argument: NameArgument, name: str, legal: str) -> None:
    """One for one; what the service takes stays."""
    assert NameTemplate(argument, name).render(record()) == legal


@BOTH
def test_forbidden_characters_of_a_field_become_underscores(argument: NameArgument) -> None:
    """A logger or a thread may be called anything."""
    template = NameTemplate(argument, "{logger_name}.{thread_name}")
    assert template.render(record(name="a:b", threadName="Thread*1")) == "a_b.Thread_1"


@BOTH
def test_512_characters_are_a_name(argument: NameArgument) -> None:
    """The longest that the service takes."""
    assert NameTemplate(argument, "x" * 512).render(record()) == "x" * 512


@BOTH
def test_513_characters_are_refused(argument: NameArgument) -> None:
    """In the constructor, with the length."""
    assert "at most 512 characters" in refusal(argument, "x" * 513)


@BOTH
def test_a_long_field_is_cut(argument: NameArgument) -> None:
    """What turns out too long at a record cannot be refused any more."""
    name = NameTemplate(argument, "app.{logger_name}").render(record(name="x" * 600))
    assert name == "app." + "x" * 508


def test_512_characters_are_the_service_models() -> None:
    """For groups and for streams."""
    assert [shape["max"] for shape in SHAPES.values()] == [MAX_NAME_LENGTH, MAX_NAME_LENGTH]


@BOTH
@pytest.mark.parametrize("template", ["", "{logger_name:.0}"])
def test_an_empty_name_is_refused(argument: NameArgument, template: str) -> None:
    """In the constructor."""
    assert "must not be empty" in refusal(argument, template)


@BOTH
def test_a_name_that_turns_out_empty_is_an_underscore(argument: NameArgument) -> None:
    """A thread without a name, say; the record is not lost for it."""
    assert NameTemplate(argument, "{thread_name}").render(record(threadName="")) == "_"


@BOTH
@pytest.mark.parametrize(
    "field",
    ["loger_name", "", "0", "env", "env[]", "logger_name.upper", "logger_name!r", "process_id[0]"],
)
def test_an_unknown_field_is_refused(argument: NameArgument, field: str) -> None:
    """The text says which it is and what there is."""
    text = refusal(argument, f"app/{{{field}}}")
    assert f"unknown field {field!r}" in text
    assert "strftime:FORMAT" in text


@BOTH
@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_refused(
    monkeypatch: pytest.MonkeyPatch, argument: NameArgument, value: str | None
) -> None:
    """By its name; an empty one would give a name that nobody meant."""
    monkeypatch.delenv("STAGE", raising=False)
    if value is not None:
        monkeypatch.setenv("STAGE", value)
    assert "environment variable 'STAGE'" in refusal(argument, "app/{env[STAGE]}")


@BOTH
@pytest.mark.parametrize("template", ["app/{", "app/}", "{logger_name", "{logger_name!}"])
def test_broken_braces_are_refused(argument: NameArgument, template: str) -> None:
    """As no valid template."""
    assert "is no valid template" in refusal(argument, template)


@BOTH
@pytest.mark.parametrize("template", ["{process_id:s}", "{logger_name:d}", "{machine_name:%Y}", "{thread_name:{x}}"])
def test_a_wrong_format_is_refused(argument: NameArgument, template: str) -> None:
    """In the constructor, not at the first record."""
    assert "has the wrong format" in refusal(argument, template)


@BOTH
def test_a_template_that_is_no_string_is_refused(argument: NameArgument) -> None:
    """By its argument's name and the value."""
    with pytest.raises(TypeError, match=f"^{argument} must be a string, not None$"):
        NameTemplate(argument, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("template", ["aws/app", "aws/{logger_name}"])
def test_a_group_of_aws_itself_is_refused(template: str) -> None:
    """Names that begin with ``aws/`` are reserved; ``/aws/`` is not."""
    assert "must not start with 'aws/'" in refusal("log_group_name", template)


def test_a_field_cannot_make_a_group_of_aws_itself() -> None:
    """The service would refuse to create it, and the events would wait for ever."""
    assert NameTemplate("log_group_name", "{logger_name}").render(record(name="aws/x/y")) == "aws_x/y"


def test_a_stream_may_begin_like_a_group_of_aws_itself() -> None:
    """The rule is for groups."""
    assert stream("aws/{logger_name}", name="aws/x") == "aws/aws/x"


names = st.text(st.characters(), max_size=600) | st.sampled_from(["", "aws/", "a:*b", "\ud800", "\x00", "é" * 600])
templates = st.lists(
    st.sampled_from(["{logger_name}", "{thread_name}", "{strftime:%H:%M}", "aws", "/", ":", "{{", "é ", "{uuid}"])
).map("".join)


@BOTH
@given(template=templates, logger=names, thread=names)
def test_a_name_is_always_legal(argument: NameArgument, template: str, logger: str, thread: str) -> None:
    """By the service model's length and pattern, whatever a logger or a thread is called; it can be sent as UTF-8."""
    shape = SHAPES[argument]
    try:
        checked = NameTemplate(argument, template)
    except ValueError:
        return  # empty, too long, or reserved
    name = checked.render(record(name=logger, threadName=thread))
    assert shape["min"] <= len(name) <= shape["max"]
    assert re.fullmatch(shape["pattern"], name)
    assert not (argument == "log_group_name" and name.startswith("aws/"))
    name.encode()


# Both names together


def test_constant_templates_are_rendered_once() -> None:
    """The usual handler pays nothing for names."""
    naming = Naming("app", "{process_id}")
    assert naming.constant == Destination("app", str(os.getpid()))


@pytest.mark.parametrize(
    ("group", "stream", "destination"),
    [
        ("app", "{logger_name}", ("app", "app.db")),
        ("{logger_name}", "web", ("app.db", "web")),
        ("{strftime:%Y}", "web", ("2026", "web")),
        ("{thread_name}", "web", ("worker-1", "web")),
    ],
)
def test_a_field_of_the_record_makes_the_names_change(group: str, stream: str, destination: tuple[str, str]) -> None:
    """Then there is no constant, and each record is asked."""
    naming = Naming(group, stream)
    assert naming.constant is None
    assert naming.destination(record()) == destination


def test_equal_destinations_are_one_object() -> None:
    """Which makes comparing them cheap."""
    naming = Naming("app", "{logger_name}")
    assert naming.destination(record()) is naming.destination(record())


def test_destinations_are_not_remembered_without_end() -> None:
    """A name for each request must not fill the memory."""
    naming = Naming("app", "{logger_name}")
    first = naming.destination(record(name="first"))
    for number in range(10_000):
        naming.destination(record(name=str(number)))
    assert naming.destination(record(name="first")) is not first


@pytest.mark.parametrize(("group", "stream"), [("", "web"), ("app", "")])
def test_both_names_are_checked(group: str, stream: str) -> None:
    """Each under its own argument's name."""
    with pytest.raises(ValueError, match="^log_group_name " if not group else "^log_stream_name "):
        Naming(group, stream)
