#!/usr/bin/env bash
# The main job on a real image, in front of your eyes: pull, mount, look, run, diff, commit, push, save, check.
# Everything happens in a store of the demo's own, which is gone afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

nacre=$(realpath "${1:?usage: demo.sh NACRE}")
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=PATH "$0" "$@"
[ -e /dev/fuse ] || { echo "demo: /dev/fuse is missing: load the fuse module (modprobe fuse), or give the container the device" >&2; exit 1; }

work=$(mktemp -d /tmp/nacre-demo.XXXXXX)
export NACRE_ROOT=$work/store NACRE_HOST=unix://$work/nacre.sock
PATH=$(dirname "$nacre"):$PATH

clean_up() {
  nacre rm -f web >/dev/null 2>&1 || true
  umount -l "$work/a" 2>/dev/null || true
  curl -fsS -X POST --unix-socket "$work/nacre.sock" http://nacre/nacre/shutdown >/dev/null 2>&1 || true
  [ -z "${registry_pid:-}" ] || kill "$registry_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap clean_up EXIT

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }

start_registry() {
  local port=5055
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  registry=127.0.0.1:$port
  cat > "$work/registry.yml" <<YML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: $registry}
YML
  OTEL_TRACES_EXPORTER=none docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
  registry_pid=$!
  for _ in $(seq 100); do curl -fsS "http://$registry/v2/" >/dev/null 2>&1 && return; sleep 0.1; done
  echo "demo: the registry did not start:" >&2; cat "$work/registry.log" >&2; exit 1
}

say "A registry to push to: docker-registry on this machine"
start_registry
echo "$registry"

if curl -fsS -m 5 -o /dev/null https://registry-1.docker.io/v2/ 2>/dev/null || [ $? = 22 ]; then
  image=debian:stable-slim
  source=$image
  say "docker.io answers: the image is $image"
else
  say "docker.io cannot be reached: a Debian image built from packages, served by the registry here"
  tests/images/build.sh
  skopeo --insecure-policy copy -q --dest-tls-verify=false oci:target/test-images/debian-min:latest "docker://$registry/debian-min"
  image=$registry/debian-min
  source=oci:$PWD/target/test-images/debian-min # the registry is gone when the demo is
fi

say "Pull it: layers are unpacked once, into a store indexed by RocksDB"
show nacre pull "$image"
show nacre image ls

say "Mount it: a writable directory; the image itself never changes"
mkdir "$work/a"
show nacre mount --name look "$image" "$work/a"
show nacre mount
show ls "$work/a"
show chroot "$work/a" sh -c 'grep PRETTY /etc/os-release'

say "Change something, and see exactly what changed"
printf '\033[2m$ %s\033[0m\n' "echo pearl > a/etc/motd; rm a/etc/issue; mv a/usr/share/doc a/opt/doc"
echo pearl > "$work/a/etc/motd"; rm "$work/a/etc/issue"; mv "$work/a/usr/share/doc" "$work/a/opt/doc"
nacre diff look > "$work/diff"
printf '\033[2m$ %s\033[0m\n' "nacre diff look | head"
head "$work/diff"; echo "… $(wc -l < "$work/diff") lines in all"

say "Run a process in it: namespaces, pivot_root, docker's defaults, its exit code"
show nacre run --rm --network none "$image" sh -c 'echo "process $$ of $(hostname) says hello"'
show nacre run --name web -d --network none "$image" sh -c 'echo started; echo data > /srv/data; exec sleep 1000'
show nacre ps
show nacre exec web cat /srv/data
show nacre logs web
show nacre diff web

say "Keep the changes as a layer, and send it away"
show nacre commit -a "A <a@b>" -m "why" web site:v2
show nacre history site:v2
show nacre tag site:v2 "$registry/site:v2"
show nacre push "$registry/site:v2"
show nacre save -o "$work/site.tar" site:v2
show nacre stop -t 1 web
show nacre rm web

say "Another store pulls it back: the same tree"
(
  export NACRE_ROOT=$work/other NACRE_HOST=unix://$work/other.sock
  show nacre pull -q "$registry/site:v2"
  show nacre run --rm --network none "$registry/site:v2" cat /srv/data
  curl -fsS -X POST --unix-socket "$work/other.sock" http://nacre/nacre/shutdown >/dev/null || true
)

say "Let go, and check every reference, digest and count"
show nacre umount "$work/a"
show nacre image rm "site:v2"
show nacre system check

cat <<TXT

Done: an image was pulled, mounted, changed, run, committed, pushed, saved, and pulled again by a second store.
Next, with a store that stays (/var/lib/nacre):
  make install
  nacre pull $source
  nacre mount ${image##*/} /mnt && ls /mnt
  nacre --help
TXT
