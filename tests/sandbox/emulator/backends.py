"""Forwards EKS and RDS, once ministack has authenticated and authorized the caller, to the sandbox's own backends."""
import asyncio
import contextvars
import http.client
import json
import logging
import os

import authorization
import ministack.app as emulator
from ministack.core.iam_evaluator import caller_arn
from ministack.core.responses import get_account_id, get_region

BACKENDS = os.environ.get("BACKENDS", "127.0.0.1:4568")
TIMEOUT_SECONDS = 60
logger = logging.getLogger("sandbox.backends")
# The target as it was sent: an ARN in a path carries encoded slashes, and decoding would make segments of them.
_target = contextvars.ContextVar("target", default="/")


def remember(scope):
    """Keeps the request's raw target until a forwarder needs it."""
    raw = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    query = scope.get("query_string", b"").decode("latin-1")
    _target.set(f"{raw}?{query}" if query else raw)


def _send(method, target, headers, body):
    host, _, port = BACKENDS.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, target, body=body or None, headers=headers)
        answer = connection.getresponse()
        return answer.status, {k: v for k, v in answer.getheaders() if k.lower() not in _HOP}, answer.read()
    finally:
        connection.close()


# Both ends frame their own messages.
_HOP = {"content-length", "transfer-encoding", "connection", "date", "keep-alive"}


def _forwarder(service):
    async def handle(method, path, headers, body, query_params):
        if denied := authorization.further_checks(service, method, path, headers, body, query_params):
            return denied
        passed = {
            "content-type": headers.get("content-type", "application/octet-stream"),
            "x-sandbox-service": service,
            "x-sandbox-region": get_region(),
            "x-sandbox-account": get_account_id(),
            "x-sandbox-principal": caller_arn(),
        }
        try:
            return await asyncio.to_thread(_send, method, _target.get(), passed, body)
        except OSError as error:
            logger.error("%s is not answering on %s: %s", service, BACKENDS, error)
            message = f"the sandbox's {service} backend does not answer on {BACKENDS}: {error}"
            if service == "rds":
                text = (f'<ErrorResponse xmlns="http://rds.amazonaws.com/doc/2014-10-31/"><Error><Type>Receiver</Type>'
                        f"<Code>ServiceUnavailable</Code><Message>{message}</Message></Error></ErrorResponse>")
                return 503, {"Content-Type": "text/xml"}, text.encode()
            return (503, {"Content-Type": "application/json", "x-amzn-errortype": "ServiceUnavailableException"},
                    json.dumps({"message": message}).encode())

    return handle


def install():
    """Replaces ministack's own EKS and RDS, which are records without anything running behind them, and adds EKS Auth, which it has not."""
    for service in ("eks", "eks-auth", "rds"):
        emulator.SERVICE_HANDLERS[service] = _forwarder(service)
