"""Rival (c): vLLM on the CPU, which serves the base model on the whole picture.

Lives in an environment of its own, whose interpreter is named: vLLM brings its own torch.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.servers.child import arguments, live, own_output
from deploy.machine import free_port

START_S = 220.0
STOP_S = 20.0
MAX_LEN = 2048
_SCHEMAS = '''
"""Operators whose CUDA builds do not load on the CPU; vLLM imports their module, and calls none."""

import importlib.util

if importlib.util.find_spec("torch") is not None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
'''


def main() -> None:
    """Serve until the input ends.

    Arguments: `python`, vLLM's interpreter; `model`, the folder; `threads`; `full_tokens`;
    `max_num_seqs`, requests that run together.
    """
    messages, given = own_output(), arguments()
    with tempfile.TemporaryDirectory(prefix="qzoom-vllm-") as scratch:
        folder = Path(scratch)
        model = _copy(Path(given["model"]), folder / "model", int(given["full_tokens"]))
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(_SCHEMAS, encoding="utf-8")
        port = free_port()
        process = subprocess.Popen(
            _command(given, model, port), env=_environment(given, folder / "site")
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(process, url)
            live(messages, {"url": url, "model": "rival"}, {})
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _command(given: dict[str, Any], model: Path, port: int) -> list[str]:
    options = {
        "served-model-name": "rival",
        "host": "127.0.0.1",
        "port": str(port),
        "dtype": "float32",
        "max-model-len": str(MAX_LEN),
        "max-num-seqs": str(given["max_num_seqs"]),
        "limit-mm-per-prompt": '{"image": 1}',
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    main = "vllm.entrypoints.cli.main"
    return [given["python"], "-m", main, "serve", str(model), "--enforce-eager", *flags]


def _environment(given: dict[str, Any], site: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(site),
        "OMP_NUM_THREADS": str(given["threads"]),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
    }


def _copy(source: Path, target: Path, full_tokens: int) -> Path:
    """Copy a checkpoint, and let its processor give pictures their full resolution."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    config.pop("qzoom", None)
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (target / "qzoom.safetensors").unlink(missing_ok=True)
    vision = config["vision_config"]
    cell = vision["patch_size"] * vision["spatial_merge_size"]
    file = target / "preprocessor_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    size = {"shortest_edge": 4 * cell**2, "longest_edge": full_tokens * cell**2}
    settings |= {"size": size, "min_pixels": size["shortest_edge"]}
    settings |= {"max_pixels": size["longest_edge"]}
    for name in (file.name, "video_preprocessor_config.json"):
        (target / name).write_text(json.dumps(settings), encoding="utf-8")
    return target


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2.0, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit("vLLM did not start")


if __name__ == "__main__":
    main()
