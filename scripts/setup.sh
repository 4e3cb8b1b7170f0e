#!/bin/sh
# Makes .venv with this project in it. Works in a fresh checkout with nothing but Python.
#   scripts/setup.sh [packages or options for pip ...]
set -eu
cd "$(dirname "$0")/.."

for python in python3.13 python3.12 python3.11 python3; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        break
    fi
    python=
done
if [ -z "$python" ]; then
    echo "Python 3.11 or newer is needed." >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "This Python lacks venv. First: sudo apt-get install python$version-venv" >&2
        exit 1
    fi
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y "python$version-venv"
fi

[ -x .venv/bin/pip ] || "$python" -m venv .venv
[ $# -gt 0 ] || set -- -e ".[host]" vega_datasets
exec .venv/bin/pip install --disable-pip-version-check -q "$@"
