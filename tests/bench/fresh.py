"""A filesystem made anew, for whatever creates many files.

What a round leaves behind must not be in the way of the next one. ext4 without a journal, which is what some machines
boot from, passes over inodes that were freed within the last minute, at a millisecond a file: removing 20,000 files
and making 20,000 others measures that, not the contender. And removing files from a disk with `discard` makes the next sync
wait. So each contender gets in each round an ext4 of mkfs's own choices on a loop file that is only ever written over."""
import os

from machine import B, WORK, made, sh, unmount

FILE = f"{B}/fresh.img"
BYTES = 5 << 30   # podman's node-app (1 GB), the layers it downloads first, and room to spare
PLACE = f"{WORK}/fresh"

_closers = []


def make():
    """An empty filesystem at PLACE; the one that was there is gone."""
    leave()
    _make_file()
    # All tables now: the kernel would write them in the background, while somebody is measured.
    sh(f"mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 {FILE} && sync {FILE}")
    attach(FILE, PLACE)


def before_leaving(close):
    """What its user does before the filesystem goes; the last one first."""
    _closers.append(close)


def leave():
    while _closers:
        _closers.pop()()
    unmount(PLACE)


def attach(file, place):
    """Mounts a filesystem in a file. Direct I/O: pages are cached once, by the filesystem inside, as on a disk."""
    device = sh(f"losetup -f --show --direct-io=on {file}")
    try:
        sh(f"mount {device} {made(place)}")
    finally:
        sh(f"losetup -d {device}", check=False)   # goes by itself with the mount


def tree(name, source):
    """A directory as a filesystem in a file of its own, made once. Returns the file."""
    file = f"{B}/trees/{name}.ext4"
    if not os.path.exists(file):
        made(os.path.dirname(file))
        sh(f"rm -f {file}.part && truncate -s 3G {file}.part && "
           f"mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 -d {source} {file}.part && mv {file}.part {file}")
    return file


def _make_file():
    """Written once from end to end: the first contender would pay for finding its blocks otherwise."""
    if not os.path.exists(FILE):
        sh(f"head -c {BYTES} /dev/zero > {FILE}.part && sync {FILE}.part && mv {FILE}.part {FILE}")
