"""Rows about a tree that is only looked at: walks, reads, the start of programs, git status. ext4 itself is the measure.

Warm: all four are mounted side by side, and each has done the work before. Cold: mounted anew, by a server that was started
anew, and nothing in the page cache."""
from functools import partial

from contenders import MAIN, all_of
from machine import drop_caches, sh, status_bytes
from rows import Contender, Row, at_most

WALK = "find . -printf '%p %s %m %T@ %i\\n' > /dev/null"
READ = "tar c . | cat > /dev/null"
# Reading all of node-app cold takes the peers minutes a round. This is a fifth of it: 15,994 of 76,964 files, 135 of 689 MB,
# the median 614 bytes (of the whole: 559), nine tenths below 5.0 kB (4.8 kB); thousands in one directory, and a few large ones.
SHARE = "app/node_modules/[n-r]* app/node_modules/@mui/icons-material/[A-D]* usr/bin"
READ_SHARE = f"tar c {SHARE} | cat > /dev/null"
GIT = "git -c safe.directory='*' -C repo status --porcelain > /dev/null"


def node(filesystem):
    return f"chroot {filesystem.place} /usr/bin/node /app/start.js"


def python(filesystem):
    return (f"PYTHONDONTWRITEBYTECODE=1 HOME=/root OPENBLAS_NUM_THREADS=1 chroot {filesystem.place} /usr/bin/python3 "
            "-c 'import numpy, pandas, scipy'")


def same(command):
    return lambda filesystem: filesystem.at(command)


def mounted(tree, read_only, passthrough=False):
    filesystems = all_of(tree, read_only)
    for filesystem in filesystems:
        filesystem.passthrough = passthrough
        filesystem.open()
    return filesystems


def warm(tree, command, read_only=False, before="true"):
    filesystems = mounted(tree, read_only)
    try:
        for filesystem in filesystems:
            filesystem.do(before)
            sh(command(filesystem))
        yield [Contender(filesystem.name, command(filesystem)) for filesystem in filesystems]
    finally:
        close(filesystems)


def cold(tree, command, read_only=False, before="true"):
    def forgotten(filesystem):
        def get_cold():
            filesystem.remount()
            drop_caches()
        return get_cold

    filesystems = mounted(tree, read_only)
    try:
        for filesystem in filesystems:
            filesystem.do(before)
        yield [Contender(filesystem.name, command(filesystem), forgotten(filesystem)) for filesystem in filesystems]
    finally:
        close(filesystems)


def close(filesystems):
    for filesystem in filesystems:
        filesystem.close()


def server_memory(read_only):
    """What a fresh server holds after a walk of all of node-app (82,533 entries)."""
    ours, _, _, theirs = filesystems = mounted("node-app", read_only)

    def after_walk(filesystem, pid):
        filesystem.remount()
        filesystem.do(WALK)
        return status_bytes(pid(), "VmRSS")

    try:
        yield [Contender("nacre", lambda: after_walk(ours, MAIN.pid)),
               Contender("fuse-overlayfs", lambda: after_walk(theirs, theirs.pid))]
    finally:
        close(filesystems)


def rows_of_mode(mode, read_only, goals):
    """Walks and reads. Goals: of the walk warm and cold, of the read warm and cold."""
    name = "ro" if read_only else "rw"
    walk_warm, walk_cold, read_warm, read_cold = ((at_most(goal, "ext4"),) for goal in goals)
    return [
        Row(f"walk-{name}-warm", f"walk with stat of node-app, {mode}, warm", partial(warm, "node-app", same(WALK), read_only), walk_warm),
        Row(f"walk-{name}-cold", f"walk with stat of node-app, {mode}, cold", partial(cold, "node-app", same(WALK), read_only), walk_cold),
        Row(f"read-{name}-warm", f"read of all files of node-app, {mode}, warm", partial(warm, "node-app", same(READ), read_only),
            read_warm),
        Row(f"read-{name}-cold", f"read of a fifth of node-app's files, {mode}, cold",
            partial(cold, "node-app", same(READ_SHARE), read_only), read_cold),
    ]


def rows_of_program(name, title, tree, command):
    return [
        Row(f"{name}-warm", f"{title}, warm", partial(warm, tree, command), (at_most(1.05, "ext4"),)),
        Row(f"{name}-cold", f"{title}, cold", partial(cold, tree, command), (at_most(1.0, "ext4"),)),
    ]


ROWS = [
    *rows_of_mode("read-only", True, (1.05, 0.8, 1.3, 0.7)),
    *rows_of_mode("writable", False, (1.05, 0.8, 2.5, 1.0)),
    *rows_of_program("node", "node start of 2,338 modules", "node-app", node),
    *rows_of_program("python", "python import of numpy, pandas, scipy", "python-app", python),
    # The index of the image knows the files by other numbers: the first status reads them all, and is not counted.
    Row("git-warm", "git status, 20,000 files, warm", partial(warm, "work", same(GIT), before=GIT), (at_most(1.2, "ext4"),)),
    Row("git-cold", "git status, 20,000 files, cold", partial(cold, "work", same(GIT), before=GIT), (at_most(1.2, "ext4"),)),
    Row("server-memory-ro", "memory of the server after a walk of node-app, read-only", partial(server_memory, True),
        (at_most(60e6),), unit="B"),
    Row("server-memory-rw", "memory of the server after a walk of node-app, writable", partial(server_memory, False),
        (at_most(60e6),), unit="B"),
]
