"""Used the way people use it: dictConfig, JSON, YAML, addHandler, Django, Flask."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import flask
import pytest
import yaml

from cloudwatch_handler import CloudWatchHandler, RejectedEvents
from tests.strict_service import StrictService

ROOT = Path(__file__).resolve().parent.parent
REJECTED: list[RejectedEvents] = []


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictService]:
    """A service that boto3 finds by itself, from the environment."""
    with StrictService() as service:
        for name, value in environment(service).items():
            monkeypatch.setenv(name, value)
        yield service


@pytest.fixture(autouse=True)
def logging_as_it_was(service: StrictService) -> Iterator[None]:
    """Handlers that a configuration installed are closed and gone afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in {*root.handlers, *logging.getLogger("shop").handlers}:
        if isinstance(handler, CloudWatchHandler):
            handler.close()
    logging.getLogger("shop").handlers.clear()
    logging.getLogger("shop").propagate = True
    root.handlers[:] = handlers
    root.setLevel(level)


def environment(service: StrictService) -> dict[str, str]:
    """What boto3 finds the service by."""
    return {
        "AWS_ENDPOINT_URL": service.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


CONFIGURATION = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "cloudwatch": {
            "class": "cloudwatch_handler.CloudWatchHandler",
            "level": "INFO",
            "log_group_name": "my-app",
            "log_stream_name": "{logger_name}",
            "send_interval": 0.05,
            "retry": {"base": 0.1, "max_delay": 5, "give_up_after": None},
            "log_group_retention_days": 30,
            "log_group_tags": {"team": "shop"},
        }
    },
    "loggers": {"shop": {"level": "DEBUG", "handlers": ["cloudwatch"], "propagate": False}},
}


def flush(logger: logging.Logger) -> CloudWatchHandler:
    """Flush the logger's only handler, and return it."""
    (handler,) = [handler for handler in logger.handlers if isinstance(handler, CloudWatchHandler)]
    assert handler.flush(20)
    return handler


@pytest.mark.parametrize("notation", [lambda text: text, json.dumps, yaml.safe_dump], ids=["dict", "json", "yaml"])
def test_a_configuration_says_the_same_as_dict_json_and_yaml(
    service: StrictService, notation: Callable[[object], object]
) -> None:
    """Every argument is a plain value, so that the notation does not matter."""
    text = notation({**CONFIGURATION, "handlers": {"cloudwatch": dict(CONFIGURATION["handlers"]["cloudwatch"])}})
    configuration = text if isinstance(text, dict) else yaml.safe_load(text)
    configuration["handlers"]["cloudwatch"]["on_rejected"] = f"{__name__}.note"
    REJECTED.clear()
    logging.config.dictConfig(configuration)
    log = logging.getLogger("shop")
    log.debug("too quiet for the handler")
    log.info("order %d", 17)
    log.info({"order": 17, "total": 12.5})
    log.info("")
    flush(log)
    assert service.messages("my-app", "shop") == ["order 17", '{"order": 17, "total": 12.5}']
    assert service.count("CreateLogGroup") == service.count("PutRetentionPolicy") == 1
    assert [rejected.reason for rejected in REJECTED] == ["empty"]


def note(rejected: RejectedEvents) -> None:
    """What the configuration names by its dotted path."""
    REJECTED.append(rejected)


def test_a_handler_that_is_added_in_code_delivers(service: StrictService) -> None:
    """The shortest way: one argument, everything else is found."""
    log = logging.getLogger("shop")
    log.setLevel(logging.INFO)
    log.addHandler(CloudWatchHandler("my-app"))
    log.info("hello")
    handler = flush(log)
    (request,) = [r for r in service.requests if r.operation == "PutLogEvents" and r.status == 200]
    assert [event["message"] for event in request.parameters["logEvents"]] == ["hello"]
    assert request.parameters["logStreamName"].endswith(f"/{os.getpid()}")
    assert handler.statistics().delivered == 1


def test_a_flask_application_delivers_what_its_requests_log(service: StrictService) -> None:
    """Requests are served, and their records arrive."""
    app = flask.Flask("my-api")
    handler = CloudWatchHandler("my-api", "web")
    app.logger.setLevel(logging.INFO)
    app.logger.addHandler(handler)

    @app.get("/<int:number>")
    def index(number: int) -> str:
        app.logger.info("request %d", number)
        return "hello"

    try:
        for number in range(10):
            assert app.test_client().get(f"/{number}").text == "hello"
        assert handler.flush(20)
    finally:
        app.logger.removeHandler(handler)
        handler.close()
    assert service.messages("my-api", "web") == [f"request {number}" for number in range(10)]


DJANGO = """
import logging, django
from django.conf import settings
from django.test import Client
from django.http import HttpResponse
from django.urls import path

def index(request):
    logging.getLogger("shop").info("request for %s", request.path)
    return HttpResponse("hello")

urlpatterns = [path("hello", index)]
settings.configure(
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "cloudwatch": {
                "class": "cloudwatch_handler.CloudWatchHandler",
                "log_group_name": "my-site",
                "log_stream_name": "{logger_name}",
            },
        },
        "root": {"level": "INFO", "handlers": ["cloudwatch"]},
        "loggers": {"django": {"level": "INFO", "handlers": ["cloudwatch"], "propagate": False}},
    },
)
django.setup()
client = Client()
assert client.get("/hello").content == b"hello"
assert client.get("/nothing").status_code == 404
"""


def test_djangos_logging_setting_delivers_and_the_process_ends(service: StrictService) -> None:
    """The application's records and Django's own, without a flush by hand."""
    script = [sys.executable, "-W", "error", "-c", DJANGO]
    run = subprocess.run(
        script, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert service.messages("my-site", "shop") == ["request for /hello"]
    assert service.messages("my-site", "django.request") == ["Not Found: /nothing"]
