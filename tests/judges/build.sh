#!/usr/bin/env bash
# Builds the judges that come from crates.io into target/judges, once: pjdfstest (POSIX, case by case) and fsx (random
# operations on one file). They are judged by, not measured: a build that is quick is better than one that is fast.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD/target/judges
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
for judge in pjdfstest@0.2.2 fsx@0.3.2; do
  stamp=$root/${judge/@/-}.built
  [ -e "$stamp" ] && [ -x "$root/bin/${judge%@*}" ] && continue
  CARGO_TARGET_DIR=$root/build cargo install --quiet --locked "$judge" --root "$root"
  touch "$stamp"
done
rm -rf "$root/build"
