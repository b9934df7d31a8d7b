#!/usr/bin/env bash
# Write requirements.lock from the virtual environment at hand: names and versions only, no hosts, no paths, no hashes.
#   scripts/lock.sh [.venv]
set -euo pipefail
cd "$(dirname "$0")/.."
{
  echo "# Versions that were tested together: a constraints file for pip, written by scripts/lock.sh."
  "${1:-.venv}/bin/python" -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[^ ]+$' | sort -f
} >requirements.lock
