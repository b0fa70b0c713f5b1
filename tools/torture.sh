#!/usr/bin/env bash
# torture.sh [SECONDS] [SEED] - kill -9, starve and damage small runs for that long (default 60), and hold what
# comes out against runs that were left alone. At most 100 kills. With a SEED: that trial alone, again.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec build/tool_torture "$@"
