"""Starts ministack as the sandbox's emulator: real authentication, state that survives kill -9, EKS and RDS elsewhere.

The front door (Rust) is the only client besides the sandbox's own set-up. It listens on loopback of the sandbox's namespace.
Environment: STATE_DIR (required), BIND_HOST, GATEWAY_PORT, BACKENDS (host:port of the sandbox's own EKS and RDS),
LOAD_BALANCERS (the file in which their stand-in writes what it has).
"""
import asyncio
import json
import os
import re
import signal

STATE_DIR = os.environ["STATE_DIR"]
ACCOUNT = os.environ.setdefault("MINISTACK_ACCOUNT_ID", "111122223333")
os.makedirs(STATE_DIR, mode=0o700, exist_ok=True)
# ministack takes the access key of its environment for the account's root: the caller's shell must not decide whose that is.
for name in [name for name in os.environ if name.startswith(("AWS_", "LOCALSTACK_"))]:
    del os.environ[name]
# ministack reads all of these when it is imported.
os.environ.update(
    AUTH="true",
    PERSIST_STATE="1",
    S3_PERSIST="1",
    S3_DATA_DIR=os.path.join(STATE_DIR, "s3"),
    SFTP_ENABLED="0",
    DOCKER_HOST="unix:///nonexistent/docker.sock",
    MINISTACK_AUTOCREATE_AWS_MANAGED="0",
)
os.environ.setdefault("BIND_HOST", "127.0.0.1")
os.environ.setdefault("GATEWAY_PORT", "4567")
os.environ.setdefault("LOG_LEVEL", "WARNING")

import authorization  # noqa: E402  (after the environment, like everything that imports ministack)
import backends  # noqa: E402
import certificates  # noqa: E402
import durability  # noqa: E402
import ec2_answers  # noqa: E402
import iam_answers  # noqa: E402
import load_balancers  # noqa: E402
import object_copies  # noqa: E402
import registry  # noqa: E402
import ministack.app as emulator  # noqa: E402
from ministack.core.iam_evaluator import _request_caller_arn  # noqa: E402


async def principal(receive, send):
    """POST /_sandbox/principal {"access_key_id": …}: who a key belongs to, for the sandbox's own processes."""
    from ministack.core.iam_evaluator import resolve_caller_identity
    from ministack.core.responses import set_request_account_id

    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    key = json.loads(body or b"{}").get("access_key_id", "")
    set_request_account_id(emulator._request_account_scope(key))
    found = resolve_caller_identity(key)
    answer = {k: found[k] for k in ("accountId", "userArn", "userId")} if found else {}
    await respond(send, 200 if found else 404, answer)


def _printable(text):
    return re.sub(r"[^!-~]", "?", text)[:512].encode("ascii")


async def respond(send, status, document):
    """One JSON answer."""
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    """The ASGI application: ministack's, with the request as it came kept for the forwarder and writes noticed."""
    if scope["type"] != "http":
        await emulator.app(scope, receive, send)
        return
    if scope["path"] == "/_sandbox/principal" and scope["method"] == "POST":
        await principal(receive, send)
        return
    backends.remember(scope)
    authorization.checked.set(("", ""))
    verdicts = []
    authorization.verdicts.set(verdicts)
    _request_caller_arn.set("")

    async def naming(message):
        if message["type"] == "http.response.start":
            action, resource = authorization.checked.get()
            # Callers choose parts of a resource's name: nothing of theirs may end a header.
            named = [(b"x-sandbox-action", _printable(action)), (b"x-sandbox-resource", _printable(resource)),
                     (b"x-sandbox-principal", _printable(_request_caller_arn.get())),
                     (b"x-sandbox-verdicts", json.dumps(verdicts).encode("ascii"))]
            message = {**message, "headers": [*message.get("headers", []), *named]}
        await send(message)

    # The front door stands where AWS has TLS: bucket policies that refuse plain text must see a secure request.
    await emulator.app({**scope, "scheme": "https"}, receive, naming)
    durability.noticed(scope)


async def serve():
    """Serves until SIGTERM or SIGINT, then saves everything."""
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.loglevel = "WARNING"
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    saver = asyncio.create_task(durability.save_changes())
    try:
        await hypercorn_serve(app, config, shutdown_trigger=stop.wait)
    finally:
        saver.cancel()
        durability.save_everything()


if __name__ == "__main__":
    authorization.install()
    backends.install()
    certificates.install()
    registry.install()
    object_copies.install()
    ec2_answers.install()
    iam_answers.install()
    load_balancers.install()
    durability.install()
    asyncio.run(serve())
