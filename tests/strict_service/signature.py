"""Checks AWS Signature Version 4, where the request is signed with the dummy credentials.

A body that was changed after it was signed (compressed too late, say) is found here. Requests
signed with other credentials pass, since their secret is not known.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from .shapes import Refused

ACCESS_KEY = "testing"
SECRET_KEY = "testing"

_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/([^,]+), ?SignedHeaders=([^,]+), ?Signature=(\w{64})")


def check_signature(headers: dict[str, str], body: bytes) -> None:
    """Checks a POST to ``/``; header names are in lower case.

    Raises:
        Refused: MissingAuthenticationTokenException without a signature,
            InvalidSignatureException where it does not fit the body or the headers.
    """
    parts = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if parts is None:
        raise Refused("MissingAuthenticationTokenException", "The request is not signed.")
    access_key, scope, signed_headers, signature = parts.groups()
    if access_key != ACCESS_KEY:
        return
    lines = [f"{name}:{headers.get(name, '').strip()}" for name in signed_headers.split(";")]
    digest = hashlib.sha256(body).hexdigest()
    canonical = "\n".join(["POST", "/", "", *lines, "", signed_headers, digest])
    to_sign = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            headers.get("x-amz-date", ""),
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = f"AWS4{SECRET_KEY}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(hmac.new(key, to_sign.encode(), "sha256").hexdigest(), signature):
        raise Refused("InvalidSignatureException", "The signature does not match the body and headers.")
