"""A Django project in one module: settings, URLs and a view that logs its query string."""

from __future__ import annotations

import logging
import os

import boto3  # noqa: F401, so that a start without handlers takes as long, but for them
import touched  # type: ignore[import-not-found]  # noqa: F401, it is touched to have the server restarted
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.server_apps import logs

SECRET_KEY = "not a secret"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__
USE_TZ = True
# Also what Django itself logs: it configures logging anew after its first records.
LOGGING = {**logs.LOGGING, "root": {"level": "INFO", "handlers": [logs.PROMPT, logs.PATIENT]}}
if "WITHOUT_HANDLERS" in os.environ:
    LOGGING = {"version": 1, "root": {"level": "INFO"}}

log = logging.getLogger("app")


def view(request: HttpRequest) -> HttpResponse:
    """Log the query string, answer with the process id."""
    log.info("%s", request.META["QUERY_STRING"])
    return HttpResponse(str(os.getpid()))


urlpatterns = [path("", view)]
