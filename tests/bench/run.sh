#!/usr/bin/env bash
# The figures of README.md, with the peers in the same run: medians of five interleaved rounds.
# Needs 20 GB in $B (default target/bench) and the image builder beside this repository (../shared/bench), which
# makes python-app, node-app, debian-min and many-layers from packages and serves them on 127.0.0.1:5000.
set -euo pipefail
cd "$(dirname "$0")/../.."
nacre=$(realpath "${1:?usage: run.sh NACRE [ROUNDS [ROW …]]}")
rounds=${2:-5}; shift $(( $# < 2 ? $# : 2 ))
[ "$(id -u)" = 0 ] || { echo "bench: needs root" >&2; exit 1; }
builder=${NACRE_BENCH_BUILDER:-../shared/bench/build-images.sh}
[ -e "$builder" ] || { echo "bench: $builder is missing: set NACRE_BENCH_BUILDER to the script that builds and serves the images" >&2; exit 1; }
export B=${B:-$PWD/target/bench}
mkdir -p "$B"
bash "$builder" all
bash "$(dirname "$builder")/prep-assets.sh" > "$B/assets.log"   # trees and assets for the rows of tests/bench/union.py
# podman's crun refuses a hybrid cgroup mount: a private mount namespace without it
exec unshare -m bash -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec python3 tests/bench/figures.py "$@"' _ "$nacre" "$rounds" "$@"
