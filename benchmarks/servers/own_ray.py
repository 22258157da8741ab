"""A Ray and a Serve of one's own on loopback, for benches that bring their own deployments.

Ray reads its environment when it is imported, so whoever starts the process sets `ENVIRONMENT`.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray import serve
from ray.serve.config import HTTPOptions, ProxyLocation

from deploy.machine import end_processes_of, free_port

LOOPBACK = "127.0.0.1"
STORE_BYTES = 512 * 2**20


@contextmanager
def own_serve(host: str = LOOPBACK) -> Iterator[str]:
    """Run Ray and Serve for the length of a block.

    Args:
        host: Address of the HTTP port.

    Yields:
        Base URL of HTTP.
    """
    folder, port = Path(tempfile.mkdtemp(prefix="qzoom-")), free_port()
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address=LOOPBACK,
            _temp_dir=str(folder),
        )
        serve.start(
            proxy_location=ProxyLocation.HeadOnly, http_options=HTTPOptions(host=host, port=port)
        )
        yield f"http://{LOOPBACK}:{port}"
    finally:
        ray.shutdown()
        end_processes_of(folder)
        shutil.rmtree(folder, ignore_errors=True)
