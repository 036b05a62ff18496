"""Run the service under uvicorn until it is told to stop."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import sys
import threading

import uvicorn
from fastapi import FastAPI

from editr1.errors import ConfigError
from editr1.serving.batching import THREADS


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, so that a taken port is told before a model is loaded.

    Raises:
        ConfigError: if the address cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as exc:
        raise ConfigError(f"cannot listen on {host}:{port} ({exc.strerror or exc}): choose another port") from None
    return sock


def run(app: FastAPI, sock: socket.socket, *, grace: float = 30.0) -> None:
    """Serve until SIGINT or SIGTERM; then take no more connections, and finish the requests under way.

    Args:
        app: the service.
        sock: bound, from `bind`.
        grace: seconds that requests under way have to finish. The process ends without a batch that takes longer, as
            Python would wait for its thread.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(grace),
        limit_concurrency=512,
        h11_max_incomplete_event_size=64 * 1024,
    )
    uvicorn.Server(config).run(sockets=[sock])
    if any(thread.name.startswith(THREADS) for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
