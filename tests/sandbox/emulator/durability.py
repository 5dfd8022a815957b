"""Saves the emulator's state right after it changed, so that kill -9 loses at most the last quarter of a second.

ministack alone saves on a clean exit only. Objects in S3 and layers in ECR are files of their own, written before the answer.
"""
import asyncio
import hashlib
import json
import logging
import os
import re
import sys
import time

import ministack.app as emulator
from ministack.core import persistence
from ministack.services import sts

STATE_DIR = os.environ["STATE_DIR"]
PAUSE_SECONDS = 0.25
EVERYTHING_SECONDS = 2.0
logger = logging.getLogger("sandbox.durability")

_READS = re.compile(r"^(Describe|List|Get|Head|BatchGet|Query|Scan|Lookup|Simulate|Generate)")
_SCOPE = re.compile(rb"Credential=[^/]+/[^/]+/[^/]+/([^/]+)/")
# A write here also writes there: S3 sends its notifications to a queue.
_FOLLOWING = {"s3": ("sqs",)}
_dirty = set()
_everything = False
_written = {}


def noticed(scope):
    """Called after each request: remembers which service may have changed."""
    global _everything
    headers = dict(scope.get("headers", []))
    target = headers.get(b"x-amz-target", b"").decode("latin-1").rpartition(".")[2]
    if _READS.match(target) or (scope["method"] in ("GET", "HEAD") and not target):
        return
    _everything = True
    scope_name = _SCOPE.search(headers.get(b"authorization", b""))
    if scope["path"].startswith("/v2/"):
        _dirty.add("ecr")
    elif scope_name:
        name = scope_name.group(1).decode("latin-1")
        name = emulator.SERVICE_NAME_ALIASES.get(name, name)
        module = emulator.SERVICE_REGISTRY.get(name, {}).get("module")
        if module:
            _dirty.update((module, *_FOLLOWING.get(module, ())))
    else:
        _dirty.add("sts")


def _module(name):
    return emulator._loaded_modules.get(name) or sys.modules.get(f"ministack.services.{name}")


def _save(key, module):
    """Writes one service's state if it differs from what is on disk."""
    state = module.get_state()
    if state is None:
        return
    document = {"__ministack_format__": persistence._state_format_version(key), "payload": state}
    text = json.dumps(document, default=persistence._json_default)
    digest = hashlib.sha256(text.encode()).digest()
    if _written.get(key) == digest:
        return
    path = os.path.join(STATE_DIR, f"{key}.json")
    with open(path + ".tmp", "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write(text)
    os.replace(path + ".tmp", path)
    _written[key] = digest


def _save_modules(names):
    for key, name in emulator._state_map.items():
        module = _module(name)
        if (names is None or name in names) and module is not None and hasattr(module, "get_state"):
            try:
                _save(key, module)
            except Exception:
                logger.exception("the state of %s could not be saved", key)


def save_everything():
    """Saves all services that were used."""
    _save_modules(None)


async def save_changes():
    """Saves what changed a quarter of a second ago, and every two seconds whatever a change pulled along."""
    global _everything
    last = time.monotonic()
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        if _dirty:
            names = set(_dirty)
            _dirty.clear()
            _save_modules(names)
        if _everything and time.monotonic() - last > EVERYTHING_SECONDS:
            _everything = False
            last = time.monotonic()
            _save_modules(None)


def _sessions_state():
    return {"sessions": dict(sts._sessions)}


def _load_sessions(data):
    sts._sessions.update((data or {}).get("sessions", {}))


def install():
    """Temporary credentials outlive a restart, as they do on AWS; ministack forgets them."""
    sts.get_state = _sessions_state
    sts.load_persisted_state = _load_sessions
