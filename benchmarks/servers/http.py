"""How is a FastAPI application served beside whatever else a process does? From its own thread."""

import threading

import uvicorn
from fastapi import FastAPI

from deploy.machine import free_port

LOOPBACK = "127.0.0.1"


def serve_app(app: FastAPI) -> str:
    """Serve an application on a free port until the process ends.

    Returns:
        Base URL, which answers from now on.
    """
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="warning"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        threading.Event().wait(0.05)
    return f"http://{LOOPBACK}:{port}"
