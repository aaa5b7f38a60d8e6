"""The documentation is true: its examples run, its tables agree with the code, its quotations are what is said.

An example runs as a reader would run it, in a process of its own with warnings as errors, against the
strict local service.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import itertools
import json
import logging
import os
import queue
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import botocore.loaders
import pytest

import cloudwatch_handler
from cloudwatch_handler import CloudWatchHandler, LogReader, RetryPolicy, Statistics
from tests.strict_service import Error, Html, StrictService

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(cloudwatch_handler.__file__).resolve().parent
DOCUMENTS = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]

#: Drawings, what is said, and settings of another package; all other blocks are run or looked up.
NOT_RUN = "text"
CONFIGURED = 'logging.getLogger("example").warning("from the example")'
#: What a user's own program would do with a block that only defines something.
ENDINGS = {
    "LOGGING = {": f"""
        import django, logging
        from django.conf import settings
        settings.configure(LOGGING=LOGGING)
        django.setup()
        {CONFIGURED}""",
    "logconfig_dict = {": f"""
        import logging, logging.config
        logging.config.dictConfig(logconfig_dict)
        {CONFIGURED}
        logging.getLogger("gunicorn.error").warning("from gunicorn")""",
    "dictConfig(\n": CONFIGURED,
    "Flask(": """
        answer = app.test_client().get("/")
        assert answer.status_code == 200, answer.text""",
}
#: What an example may say on stderr: Flask's own handler, and the package about an event that is to be rejected.
SAID = re.compile(r"\[[\d :,-]+\] INFO in example: .+|1 events rejected, the last for my-app/.+; too_old \(.+\): 1")
LOADERS = {
    "json": "import json; settings = json.loads(text)",
    "yaml": "import yaml; settings = yaml.safe_load(text)",
}


class Block(NamedTuple):
    """A ``code-block`` of a document."""

    document: str
    line: int
    language: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks_of(path: Path) -> Iterator[Block]:
    """Every code block of a document, dedented."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        directive = re.fullmatch(r"( *)\.\. code-block:: (\w+)", line)
        if directive is None:
            continue
        indent = len(directive[1])
        body = []
        for following in lines[number + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= indent:
                break
            body.append(following)
        options, _, text = "\n".join(body).partition("\n\n") if body[0] else ("", "", "\n".join(body))
        name = re.fullmatch(r" +:name: (\S+)", options)
        if options and name is None:
            raise ValueError(f"{path.name}:{number + 1}: an option that this test does not know, or no blank line")
        text = textwrap.dedent(text).strip("\n")
        yield Block(path.name, number + 1, directive[2], name[1] if name else "", f"{text}\n")


BLOCKS = [block for path in DOCUMENTS for block in blocks_of(path)]


def blocks(*languages: str, when: Callable[[Block], bool] = lambda block: True) -> pytest.MarkDecorator:
    """Run a test for each block in one of these languages."""
    found = [block for block in BLOCKS if block.language in languages and when(block)]
    return pytest.mark.parametrize("block", found, ids=str)


def is_policy(block: Block) -> bool:
    """Whether this is a policy of IAM, and not a configuration of logging."""
    return '"Statement"' in block.text


def words(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


@pytest.fixture
def account(service: StrictService, monkeypatch: pytest.MonkeyPatch) -> StrictService:
    """The service, with an event to read, where boto3 looks for one."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    service.create_log_stream("my-app", "web-1")
    service.add_events("my-app", "web-1", [(int(time.time() * 1000), "ERROR stored before")])
    return service


def run(directory: Path, *arguments: str, text: str = "") -> str:
    """Run Python as a reader would, with warnings as errors, and return what it prints; it may not complain."""
    example = directory / "example.py"
    example.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments, str(example)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    complaints = [line for line in done.stderr.splitlines() if not SAID.fullmatch(line)]
    assert (done.returncode, complaints) == (0, []), f"{done.stdout}{done.stderr}"
    return done.stdout


def stored(service: StrictService) -> int:
    """How many PutLogEvents succeeded."""
    requests = service.requests
    return sum(request.operation == "PutLogEvents" and request.status == 200 for request in requests)


# -- examples ---------------------------------------------------------------------------------------------------------


@blocks("python")
def test_python_runs_without_a_warning_and_delivers_what_it_logs(
    block: Block, account: StrictService, tmp_path: Path
) -> None:
    """Every Python example runs to its end, breaks no rule of the service, and its records arrive."""
    endings = [textwrap.dedent(ending) for mark, ending in ENDINGS.items() if mark in block.text]
    run(tmp_path, text="\n".join([block.text, *endings]))
    assert account.violations == []
    logs = re.search(r"\b(log|logger)\.(debug|info|warning|error|exception|critical)\(", block.text)
    delivers = "CloudWatchHandler" in block.text and (logs or endings)
    assert stored(account) > 0 or not delivers


@blocks("pycon")
def test_a_session_prints_what_is_shown(block: Block, account: StrictService, tmp_path: Path) -> None:
    """Every line of output in an interactive example is what Python prints."""
    assert ">>> " in block.text
    run(tmp_path, "-m", "doctest", "-o", "ELLIPSIS", text=f'r"""\n{block.text}"""\n')


@blocks("json", "yaml", when=lambda block: not is_policy(block))
def test_a_configuration_file_configures_a_handler_that_delivers(
    block: Block, account: StrictService, tmp_path: Path
) -> None:
    """Every JSON or YAML configuration can be handed to dictConfig, and a record arrives."""
    program = f"text = {block.text!r}\n{LOADERS[block.language]}\n"
    program += f"import logging.config\nlogging.config.dictConfig(settings)\n{CONFIGURED}\n"
    run(tmp_path, text=program)
    assert account.violations == []
    assert stored(account) == 1


def test_an_example_that_fails_is_noticed(tmp_path: Path) -> None:
    """An exception, a warning, and a word on stderr each fail an example."""
    for text in ("1 / 0", "import warnings; warnings.warn('x')", "import sys; print('x', file=sys.stderr)"):
        with pytest.raises(AssertionError):
            run(tmp_path, text=text)


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    """No block escapes by its language, and text is only a drawing, a quotation, or settings of watchtower."""
    checked = {"python", "pycon", "json", "yaml", "sh"}
    others = [block for block in BLOCKS if block.language not in checked]
    assert {block.language for block in others} == {NOT_RUN}
    unnamed = [block for block in others if not block.name]
    assert [(block.document, block.text[0] == '"') for block in unnamed] == [
        ("delivery.rst", False),
        ("migrating.rst", True),
    ]


def test_no_example_hides_in_a_literal_block() -> None:
    """Every document marks its examples with code-block; a bare ``::`` would not be run."""
    for path in DOCUMENTS:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            directive = line.lstrip().startswith("..")
            assert directive or not line.endswith("::"), f"{path.name}:{number}"


# -- permissions ------------------------------------------------------------------------------------------------------


def operations(service: str) -> set[str]:
    """The operations that botocore's model of a service knows."""
    model = botocore.loaders.Loader().load_service_model(service, "service-2")
    return set(model["operations"])


@blocks("json", when=is_policy)
def test_a_policy_allows_operations_that_exist(block: Block) -> None:
    """Every action of a policy is an operation of CloudWatch Logs, on the group of the example."""
    policy = json.loads(block.text)
    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert "logs:PutLogEvents" in actions
        assert {action.partition(":")[2] for action in actions} <= operations("logs")
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        assert all(re.fullmatch(r"arn:aws:logs:[\w*-]+:[\d*]+:log-group:my-app(\*|:\*)?", name) for name in resources)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_an_action_that_is_named_exists(path: Path) -> None:
    """Every ``logs:Something`` of a document is an operation, and so is every ``sts:Something``."""
    named = re.findall(r"\b(logs|sts):([A-Z]\w+)", path.read_text(encoding="utf-8"))
    assert {name for service, name in named if service == "logs"} <= operations("logs")
    assert {name for service, name in named if service == "sts"} <= operations("sts")


def test_the_same_permissions_are_named_in_both_places() -> None:
    """The table of permissions in the README and that of the documentation ask for the same actions."""
    actions = []
    for path in (ROOT / "README.rst", ROOT / "docs" / "configuration.rst"):
        section = path.read_text(encoding="utf-8").split("\nPermissions\n===")[1].split("\n.. code-block")[0]
        actions.append(set(re.findall(r"\b(?:logs|sts):[A-Z]\w+", section)))
    assert actions[0] == actions[1]
    assert len(actions[0]) == 10


# -- commands ---------------------------------------------------------------------------------------------------------


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block, each as its words."""
    lines = block.text.replace("&&", "\n").replace("|", "\n").splitlines()
    return [line.split() for line in lines if line.strip()]


@blocks("sh")
def test_a_command_that_is_shown_exists(block: Block) -> None:
    """Every command of a shell example is one that there is, with a verb, a file or an environment that exists."""
    for command, *arguments in commands(block):
        program = Path(command).name
        if program in ("python", "python3"):
            files = [name for name in arguments if "/" in name]
            assert all((ROOT / name).exists() for name in files), files
            modules = [after for before, after in itertools.pairwise(arguments) if before == "-m"]
            assert all(importlib.util.find_spec(name) or name == "pip" for name in modules), modules
            assert files or modules
        elif program == "tox":
            environments = re.search(r"^env_list = (.+)$", (ROOT / "tox.ini").read_text(), re.MULTILINE)
            assert environments is not None
            assert arguments[0] == "run"
            assert {*arguments[1:]} - {"-e"} <= {*environments[1].split(", ")}
        elif program == "cloudwatch-handler":
            from cloudwatch_handler.cli import cli

            options = {name for option in cli.commands[arguments[0]].params for name in option.opts}
            assert {name for name in arguments if name.startswith("--")} <= options
        else:
            assert program in ("tail",), program


@blocks("sh", when=lambda block: "benchmarks/" in block.text)
def test_a_benchmark_has_the_options_that_are_shown(block: Block) -> None:
    """Every option that is shown with a benchmark is one that it has."""
    for command in commands(block):
        help_text = subprocess.run(
            [sys.executable, str(ROOT / command[1]), "--help"], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        assert all(re.search(rf"{option}\b", help_text) for option in command if option.startswith("--"))


def test_the_options_of_every_verb_are_those_that_are_said() -> None:
    """Every verb of the command has a section, and takes the options that all are said to take."""
    from cloudwatch_handler.cli import cli

    text = (ROOT / "docs" / "reading.rst").read_text(encoding="utf-8")
    for verb, command in cli.commands.items():
        assert f"\n{verb}\n---" in text
        options = {name for option in command.params for name in option.opts}
        assert {"--endpoint-url", "--region", "--profile"} <= options


# -- tables -----------------------------------------------------------------------------------------------------------


def table(document: str, heading: str) -> dict[str, str]:
    """The table whose header begins with this word: its first column (a literal) to the rest of the row."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    body = re.search(rf"^=[= ]+\n{heading} .*\n=[= ]+\n((?:.+\n)+?)=[= ]+\n", text, re.MULTILINE)
    assert body is not None, f"no table {heading} in {document}"
    rows = re.findall(r"^``(\w+)(?:\.py)?`` +(.+(?:\n .+)*)", body[1], re.MULTILINE)
    return {name: words(rest) for name, rest in rows}


def described_arguments() -> dict[str, object]:
    """The arguments that configuration.rst describes, with their defaults; ``...`` for one that is required."""
    text = (ROOT / "docs" / "configuration.rst").read_text(encoding="utf-8")
    terms = re.findall(r"^``(\w+)`` \((?:default ``(.+)``|required)\)\n    \S", text, re.MULTILINE)
    return {name: ast.literal_eval(default) if default else ... for name, default in terms}


def test_every_argument_is_described_with_its_default() -> None:
    """The configuration page has each argument of the handler, with the default of the signature, and no other."""
    parameters = inspect.signature(CloudWatchHandler).parameters.values()
    actual = {
        parameter.name: ... if parameter.default is parameter.empty else parameter.default for parameter in parameters
    }
    assert described_arguments() == actual


def test_the_fields_of_a_retry_policy_are_described_with_their_defaults() -> None:
    """The description of ``retry`` names each field of RetryPolicy with its default."""
    text = words((ROOT / "docs" / "configuration.rst").read_text(encoding="utf-8"))
    for field in dataclasses.fields(RetryPolicy):
        assert f"``{field.name}`` ({field.default})" in text


def test_every_statistic_is_described() -> None:
    """The ledger's table has each field of Statistics, in order, and no other."""
    assert list(table("guarantees.rst", "Field")) == [field.name for field in dataclasses.fields(Statistics)]


def test_every_reason_is_described() -> None:
    """The reasons for rejecting and dropping are those of the ledger, wherever they are listed."""
    from cloudwatch_handler.ledger import DROP_REASONS, REJECTION_REASONS

    assert tuple(table("delivery.rst", "Reason")) == REJECTION_REASONS
    rows = table("guarantees.rst", "Field")
    assert tuple(re.findall(r"``(\w+)``", rows["rejected_by_reason"])) == REJECTION_REASONS
    assert tuple(re.findall(r"``(\w+)``", rows["dropped_by_reason"])) == DROP_REASONS
    text = (ROOT / "docs" / "troubleshooting.rst").read_text(encoding="utf-8")
    terms = set(re.findall(r"``(\w+)``", " ".join(re.findall(r"^``\w+``.*$", text, re.MULTILINE))))
    assert {*REJECTION_REASONS, *DROP_REASONS} <= terms


def test_every_error_is_described() -> None:
    """The table of errors has each class of the tree below its root."""
    from cloudwatch_handler import errors

    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.ServiceError) and value is not errors.ServiceError
    }
    assert set(table("delivery.rst", "Class")) == classes


def test_every_module_is_listed() -> None:
    """The layout lists each module of the package, and no other."""
    assert set(table("contributing.rst", "Module")) == {path.stem for path in PACKAGE.glob("*.py")}


def test_every_module_imports_only_what_is_listed_below_it() -> None:
    """The layout is in the order of the imports; what is imported for types alone does not count."""
    order = list(table("contributing.rst", "Module"))
    for place, name in enumerate(order):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        typing_only = [
            node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node)
        ]
        skipped = {id(node) for branch in typing_only for node in ast.walk(branch)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 1 and id(node) not in skipped:
                modules = [node.module] if node.module else [alias.name for alias in node.names]
                assert all(order.index(module) > place for module in modules), (name, modules)


def test_every_exported_name_is_in_the_reference() -> None:
    """The API page documents each exported class."""
    text = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\.\. autoclass:: (\w+)", text, re.MULTILINE))
    assert documented == set(cloudwatch_handler.__all__) - {"__version__"}


def test_the_limits_are_those_of_the_code() -> None:
    """The numbers of the limits in the documentation are the code's constants."""
    from cloudwatch_handler import event

    text = (ROOT / "docs" / "delivery.rst").read_text(encoding="utf-8")
    numbers = [event.MAX_BATCH_COUNT, event.MAX_BATCH_SIZE, event.MAX_MESSAGE_SIZE]
    times = [event.MAX_BATCH_SPAN_MS // 3_600_000, event.MAX_EVENT_AGE_MS // 86_400_000]
    ahead = event.MAX_EVENT_LEAD_MS // 3_600_000
    rows = [f"  {number:,}" for number in numbers] + [f"  {times[0]} hours", f"  {times[1]} days", f"  {ahead} hours"]
    assert all(row in text for row in rows)


def test_every_field_of_a_name_is_described() -> None:
    """The table of fields has exactly those that the error about an unknown one lists."""
    with pytest.raises(ValueError, match="unknown field") as caught:
        CloudWatchHandler("{unknown}")
    listed = str(caught.value).partition("the fields are ")[2].replace(" and ", ", ").split(", ")
    text = (ROOT / "docs" / "configuration.rst").read_text(encoding="utf-8")
    described = re.findall(r"^``\{([^}]+)\}`` ", text, re.MULTILINE)
    assert {name.partition(":")[0] for name in described} == {name.partition(":")[0] for name in listed}


def test_every_argument_of_watchtower_has_a_row() -> None:
    """The page on moving has each argument of watchtower's handler, where that is installed to be asked."""
    watchtower = pytest.importorskip("watchtower")
    parameters = inspect.signature(watchtower.CloudWatchLogHandler).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD}
    assert set(table("migrating.rst", "Argument")) == {*named, "level"}


def test_what_is_kept_of_watchtower_is_an_argument_here() -> None:
    """Each argument in the table of moving is one of the handler, unless the table says that it is not accepted."""
    rows = table("migrating.rst", "Argument")
    refused = {name for name, rest in rows.items() if "not accepted" in rest}
    assert set(rows) - refused <= set(inspect.signature(CloudWatchHandler).parameters)
    for name in refused:
        with pytest.raises(TypeError, match=name):
            CloudWatchHandler("my-app", **{name: "x"})


def test_what_is_not_available_yet_is_refused() -> None:
    """The arguments of that section are refused or without effect, and the reader has no such methods."""
    with pytest.raises(NotImplementedError, match="sequence_numbers"):
        CloudWatchHandler("my-app", sequence_numbers=True)
    assert not hasattr(LogReader, "follow")
    assert not hasattr(LogReader, "verify")


# -- what the package says --------------------------------------------------------------------------------------------


class Lines(logging.Handler):
    """Keeps the lines that the package says."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.put(record.getMessage())

    def next(self) -> str:
        """The next line, as soon as it is said."""
        return self._lines.get(timeout=10)


@contextmanager
def speaking(service: StrictService, **arguments: Any) -> Iterator[tuple[logging.Logger, CloudWatchHandler, Lines]]:
    """A logger with a handler for my-app/web-1, and the lines that the package says meanwhile."""
    said = Lines()
    diagnostics = logging.getLogger("cloudwatch_handler")
    diagnostics.addHandler(said)
    arguments.setdefault("boto3_client", service.client())
    handler = CloudWatchHandler(
        "my-app",
        "web-1",
        **{"send_interval": 0, "retry": RetryPolicy(0.05, max_delay=0.05), "shutdown_timeout": 0.1, **arguments},
    )
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    try:
        yield logger, handler, said
    finally:
        handler.close()
        diagnostics.removeHandler(said)


DOWN = Error("ServiceUnavailableException", 503, "The service cannot complete the request.")


def first_line(service: StrictService, fault: Any = None, operation: str = "PutLogEvents", **arguments: Any) -> str:
    """The first line that is said when a record meets a fault."""
    if fault is not None:
        service.inject(fault, operation, times=None)
    with speaking(service, **arguments) as (logger, _, said):
        logger.warning("x")
        return said.next()


def denied(service: StrictService) -> str:
    """The permission is missing."""
    service.create_log_stream("my-app", "web-1")
    text = "User: arn:aws:iam::123456789012:user/web is not authorized to perform: logs:PutLogEvents"
    return first_line(service, Error("AccessDeniedException", 400, text))


def no_credentials(service: StrictService) -> str:
    """There are no credentials."""
    return first_line(service, boto3_client=None, region_name="us-east-1", endpoint_url=service.url)


def no_region(service: StrictService) -> str:
    """There is no region."""
    return first_line(service, boto3_client=None)


def not_created(service: StrictService) -> str:
    """The group is missing and may not be created."""
    return first_line(service, create_log_group=False)


def delivered_all_the_same(service: StrictService) -> str:
    """The retention cannot be set."""
    service.inject(Error("AccessDeniedException"), "PutRetentionPolicy", times=None)
    with speaking(service, log_group_retention_days=7) as (logger, handler, said):
        for _ in range(5):
            logger.warning("x")
            assert handler.flush(20)
        return said.next()


def unavailable(service: StrictService) -> str:
    """The service is away."""
    return first_line(service, DOWN)


def recovered(service: StrictService) -> str:
    """The service is back after one failure."""
    service.create_log_stream("my-app", "web-1")
    service.inject(DOWN)
    with speaking(service) as (logger, handler, said):
        logger.warning("x")
        assert handler.flush(20)
        said.next()
        return said.next()


def throttled(service: StrictService) -> str:
    """The quota is used up."""
    return first_line(service, Error("ThrottlingException", 400, "Rate exceeded"))


def not_the_service(service: StrictService) -> str:
    """A captive portal answers."""
    return first_line(service, Html())


def rejected(service: StrictService) -> str:
    """A record is from another century."""
    with speaking(service) as (logger, handler, said):
        record = logger.makeRecord("shop", logging.WARNING, "shop.py", 1, "x", (), None)
        record.created = 0.0
        logger.handle(record)
        handler.flush(10)
        return said.next()


def dropped(service: StrictService) -> str:
    """There is no room, for any event."""
    with speaking(service, max_queue_size=1) as (logger, handler, said):
        logger.warning("x")
        handler.flush(10)
        return said.next()


def unexpected(service: StrictService) -> str:
    """The application's callable fails."""

    def fail(_: object) -> None:
        raise ZeroDivisionError("division by zero")

    with speaking(service, on_rejected=fail) as (logger, handler, said):
        logger.warning("")
        handler.flush(10)
        said.next()
        return said.next()


SCENES = {
    "said-denied": denied,
    "said-no-credentials": no_credentials,
    "said-no-region": no_region,
    "said-not-created": not_created,
    "said-delivered-all-the-same": delivered_all_the_same,
    "said-unavailable": unavailable,
    "said-recovered": recovered,
    "said-throttled": throttled,
    "said-not-the-service": not_the_service,
    "said-rejected": rejected,
    "said-dropped": dropped,
    "said-unexpected": unexpected,
}


def without_numbers(text: str) -> str:
    """A text in which counts and seconds do not matter."""
    return re.sub(r"\d+(\.\d+)?", "#", words(text))


QUOTED = [block for block in BLOCKS if block.language == NOT_RUN and block.name and block.name != "said-closed"]


@pytest.mark.parametrize("block", QUOTED, ids=lambda block: block.name)
def test_a_line_that_is_quoted_is_what_the_package_says(block: Block, service: StrictService) -> None:
    """Every quoted line comes, but for its numbers, when what it is said to mean happens."""
    assert without_numbers(SCENES[block.name](service)) == without_numbers(block.text)


def test_every_scene_is_quoted() -> None:
    """No scene has lost its quotation."""
    assert [block.name for block in QUOTED] == list(SCENES)


def test_the_last_line_is_quoted_as_it_is_said(service: StrictService, capsys: pytest.CaptureFixture[str]) -> None:
    """What close says on stderr is the line in the documentation."""
    first_line(service, DOWN)
    quoted = next(block for block in BLOCKS if block.name == "said-closed")
    assert without_numbers(capsys.readouterr().err) == without_numbers(quoted.text)


def test_a_heading_in_quotation_marks_is_part_of_a_line() -> None:
    """The symptoms that are headed by words of the package are words that it says."""
    text = (ROOT / "docs" / "troubleshooting.rst").read_text(encoding="utf-8")
    said = words(" ".join(block.text for block in BLOCKS if block.name.startswith("said-")))
    headings = re.findall(r'^"(.+)"\n===', text, re.MULTILINE)
    assert len(headings) == 6
    for heading in headings:
        assert re.search(re.escape(heading).replace("N", r"\d+").replace("…", ".+"), said), heading
