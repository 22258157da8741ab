"""Whoever asks a server needs no part of one."""

import subprocess
import sys


def test_the_client_needs_neither_model_nor_server():
    code = (
        "import sys, qzoom.client\n"
        "heavy = {'torch', 'ray', 'transformers', 'fastapi', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
