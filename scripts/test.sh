#!/usr/bin/env bash
# Everything that must hold before a change is taken, with all that it needs to be installed:
# works in a clean checkout on Debian or Ubuntu.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

say 'Debian packages'
missing=()
while read -r package _; do
    case $package in
        nodejs | npm) if command -v npm >/dev/null; then continue; fi ;;
    esac
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done < <(sed -s 's/#.*//; /^[[:space:]]*$/d' template/debian-packages.txt tests/debian-packages.txt)
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ]; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    else
        echo "not installed, and not root: ${missing[*]}" >&2
    fi
fi

# Compiled when it is first imported, which most of it never is.
say 'Python packages'
unset PYTHONDONTWRITEBYTECODE
scripts/setup.sh --no-compile -e '.[dev]'
export PATH="$PWD/.venv/bin:$PATH"

say 'ruff'
ruff check .
ruff format --check .

say 'mypy'
mypy

# Real processes and clocks on a machine that may be busy: what fails twice has failed.
say 'pytest: two at a time; the first one prepares what sandboxes are made of'
pytest -m 'not alone and not benchmark and not slow' --reruns 1 --durations 15 \
    -n 2 --dist loadfile --no-loadscope-reorder

say 'pytest: what measures the machine'
pytest -m 'alone and not benchmark and not slow' --reruns 1 --durations 5
