#!/usr/bin/env bash
# Builds the images that the tests and the demo use, once, as OCI layouts under target/test-images:
#   debian-min    a minimal Debian (or Ubuntu) from packages: one layer, about 9,000 files
#   many-layers   the same and 30 small layers: whiteouts, opaque directories, hard links, xattrs, changed types
set -euo pipefail
cd "$(dirname "$0")/../.."
out=target/test-images
mkdir -p "$out"

sources() {
  local file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/{debian,ubuntu}.sources; do
    if [ -s "$file" ]; then echo "$file"; fi
  done
}

if [ ! -s "$out/rootfs.tar" ]; then
  # shellcheck disable=SC1091
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  echo "images: building a minimal $suite from packages"
  mapfile -t lists < <(sources)
  SOURCE_DATE_EPOCH=1714500000 mmdebstrap --quiet --variant=minbase \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
    "$suite" "$out/rootfs.part.tar" "${lists[@]}"
  mv "$out/rootfs.part.tar" "$out/rootfs.tar"
fi
for image in debian-min many-layers; do
  [ -e "$out/$image/index.json" ] || python3 tests/images/layout.py "$image" "$out/rootfs.tar" "$out/$image"
done
