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
# One line that moves instead of pip's hundreds; errors go to stderr as they are.
show_packages() {
  awk '/^Collecting/ { printf "\r    %3d packages, now %-40s", ++n, $2; fflush() }
       /^Installing collected/ { printf "\r    %3d packages, unpacking %-34s", n, ""; fflush() }
       END { print "" }'
}
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  echo "==> installing PyTorch (the largest part)"
  pip install torch==2.13.0 ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} | show_packages
fi
echo "==> installing qzoom[$extra] and its pinned dependencies"
pip install -c requirements/constraints.txt -e ".[$extra]" | show_packages
echo "==> ready: $venv/bin/qzoom"
