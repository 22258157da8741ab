#!/usr/bin/env bash
# Make a virtual environment and install the project with one set of extras, pinned.
#   scripts/env.sh VENV EXTRA
# TORCH_INDEX: a package index with PyTorch's CPU builds, where the default one brings CUDA.
set -euo pipefail
venv=$1
extra=$2
cd "$(dirname "$0")/.."

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
[ -n "$python" ] || { echo "error: no python3 on PATH; Q-Zoom needs Python 3.11 or newer" >&2; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: $("$python" --version) is too old; Q-Zoom needs Python 3.11 or newer" >&2; exit 2; }

if [ ! -x "$venv/bin/pip" ]; then
  echo "==> making $venv with $("$python" --version)"
  if ! "$python" -m venv "$venv" 2>/dev/null; then
    # Debian ships Python without ensurepip; its package brings it.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
      "$python" -m venv "$venv"
    else
      echo "error: '$python -m venv' failed; install it first: sudo apt-get install python3-venv" >&2
      exit 2
    fi
  fi
fi

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  echo "==> installing PyTorch (the largest part)"
  pip install --progress-bar on torch==2.13.0 ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} | grep -vE 'already satisfied' || true
  "$venv/bin/python" -c 'import torch' || { echo "error: PyTorch 2.13.0 could not be installed" >&2; exit 2; }
fi
echo "==> installing qzoom[$extra] and its pinned dependencies"
pip install --quiet -c requirements/constraints.txt -e ".[$extra]"
echo "==> ready: $venv/bin/qzoom"
