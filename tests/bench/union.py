"""Rows about a filesystem at work: ext4 itself is the measure, overlayfs and fuse-overlayfs stand beside it.

Each contender shows the same tree: ext4 a copy of it, the others its layers. The trees and the assets are made by
prep-assets.sh of the image builder (flat/, layers/, assets/ under $B)."""
import json, os, re, shutil

from machine import B, WORK, drop_caches, nacre, nothing, service_pid, sh, stop_service
from table import MB, row

ASSETS = f"{B}/assets"
WALK = "find . -printf '%p %s %m %T@ %i\\n' > /dev/null"
READ = "tar c . | cat > /dev/null"
PEERS = ("nacre", "ext4", "overlayfs", "fuse-overlayfs")


def point(fs):
    return f"{WORK}/union/{fs}"


def lowers(tree):
    layers = sorted(os.listdir(f"{B}/layers/{tree}"), key=int, reverse=True)
    return ":".join(f"{B}/layers/{tree}/{layer}" for layer in layers)


def image(tree):
    """The tree as an image of one layer."""
    if not nacre(f"image ls -q bench/{tree}"):
        sh(f"tar --xattrs --numeric-owner -C {B}/flat/{tree} -cf {WORK}/{tree}.tar .")
        nacre(f"import {WORK}/{tree}.tar bench/{tree}")
        os.remove(f"{WORK}/{tree}.tar")
    return f"bench/{tree}"


def unmount(fs):
    if fs == "nacre":
        nacre(f"umount {point(fs)}", check=False)
        nacre("rm union", check=False)
    else:
        sh(f"umount {point(fs)}", check=False)


def mount(fs, tree, read_only=False):
    """A fresh mount with nothing changed in it."""
    unmount(fs)
    os.makedirs(point(fs), exist_ok=True)
    own = f"{WORK}/union/{fs}-own"
    shutil.rmtree(own, ignore_errors=True)
    for place in ("upper", "work"):
        os.makedirs(f"{own}/{place}")
    over = f"lowerdir={lowers(tree)},upperdir={own}/upper,workdir={own}/work"
    if fs == "nacre":
        nacre(f"mount {'--read-only' if read_only else '--name union'} {image(tree)} {point(fs)}")
    elif fs == "ext4":
        sh(f"mount --bind {B}/flat/{tree} {point(fs)}")
    elif fs == "overlayfs":
        sh(f"mount -t overlay overlay -o {over} {point(fs)}")
    else:
        sh(f"fuse-overlayfs -o {over} {point(fs)}")


def workload(title, tree, command, goal, before=None, cold=False, again=False, after=None, read_only=False):
    """Each in a fresh mount: `before`, caches dropped if `cold`, the command once untimed if `again`, the command, `after`."""
    image(tree)

    def ready(fs):
        def get_ready():
            mount(fs, tree, read_only)
            if before:
                sh(f"cd {point(fs)}; {before}")
            if again:
                sh(f"cd {point(fs)}; {command(point(fs))}")
            if cold:
                drop_caches()
        return get_ready

    row(title, [(fs, ready(fs), f"cd {point(fs)}; {command(point(fs))}") for fs in PEERS], [("ext4", goal)])
    for fs in PEERS:
        if after:
            sh(f"cd {point(fs)}; {after}", check=False)
        unmount(fs)


def same(command):
    return lambda _: command


def reads():
    for name, only in (("read-only", True), ("writable", False)):
        workload(f"walk of node-app with stat, warm, {name}", "node-app", same(WALK), 1.05, again=True, read_only=only)
        workload(f"the same, cold, {name}", "node-app", same(WALK), 0.8, cold=True, read_only=only)
        workload(f"read of all of node-app, warm, {name}", "node-app", same(READ), 1.3 if only else 2.5, again=True, read_only=only)
        workload(f"the same, cold, {name}", "node-app", same(READ), 0.7 if only else 1.0, cold=True, read_only=only)


def programs():
    node = lambda at: f"chroot {at} /usr/bin/node /app/start.js"
    python = lambda at: (f"PYTHONDONTWRITEBYTECODE=1 HOME=/root OPENBLAS_NUM_THREADS=1 chroot {at} /usr/bin/python3 "
                         "-c 'import numpy, pandas, scipy'")
    for title, tree, start in (("node start, 2,339 modules", "node-app", node), ("python import", "python-app", python)):
        workload(f"{title}, warm", tree, start, 1.05, again=True)
        workload(f"{title}, cold", tree, start, 1.0, cold=True)


def copy_ups():
    touch = same(f"xargs touch < {ASSETS}/touch.list")
    append = same(f"perl -ne 'chomp; open(F,q(>>),$_) or die $_; print F qq(\\n); close F' {ASSETS}/append.list")
    # ext4 has no image to fall back to: what it changes stays, in times and in a line more of each file.
    workload("touch of 5,000 lower files, cold", "node-app", touch, 1.5, cold=True)
    workload("append to 5,000 lower files, cold", "node-app", append, 2, cold=True)
    workload("1 byte into a dense lower file of 1 GiB", "work", same("printf x | dd of=big.bin conv=notrunc status=none"), 2,
             before="cat big.bin > /dev/null")


def many_files():
    untar = f"mkdir -p w/t && tar xf {ASSETS}/tree.tar -C w/t"
    sh(f"cat {ASSETS}/tree.tar > /dev/null")
    clean = "rm -rf w/t"
    workload("untar of 20,000 files", "work", same(untar), 2.5, before=f"{clean}; sync", after=clean)
    workload("their removal", "work", same(clean), 2, before=f"{clean}; {untar}")
    workload("make -j2 of 200 C files", "work", same("make -C proj -j2 -s"), 1.05, before="make -C proj -s clean; sync",
             after="make -C proj -s clean")
    git = same("git -c safe.directory='*' -C repo status --porcelain")
    workload("git status, 20,000 files, warm", "work", git, 1.2, again=True)
    workload("the same, cold", "work", git, 1.2, before="git -c safe.directory='*' -C repo status", cold=True)


def fio(arguments):
    """The seconds that the same bytes would take at the throughput that fio reports for its job alone."""
    def run():
        out = sh(f"fio --name=x --ioengine=psync --direct=0 --invalidate=0 --output-format=json --fallocate=none {arguments}")
        job = json.loads(out[out.index("{"):])["jobs"][0]
        done = max((job["read"], job["write"]), key=lambda side: side["io_bytes"])
        return done["runtime"] / 1000
    return run


def throughput(title, arguments, factor, before):
    """`factor`: the share of ext4's throughput to reach."""
    image("work")

    def ready(fs):
        def get_ready():
            mount(fs, "work")
            sh(f"cd {point(fs)}; {before}; sync")
        return get_ready

    row(title, [(fs, ready(fs), fio(arguments.format(at=point(fs)))) for fs in PEERS], [("ext4", round(1 / factor, 2))])
    for fs in PEERS:
        sh(f"rm -f {point(fs)}/w/new.bin", check=False)
        unmount(fs)


def large_files():
    read, new = "--filename={at}/big.bin --readonly --size=1g", "--filename={at}/w/new.bin --size=1g"
    throughput("sequential read of a lower file of 1 GiB, warm, writable mount", f"{read} --rw=read --bs=128k", 0.65,
               "cat big.bin > /dev/null")
    throughput("random 4k reads of it, warm", f"{read} --rw=randread --bs=4k --io_size=512m", 0.8, "cat big.bin > /dev/null")
    made = "cp big.bin w/new.bin; cat w/new.bin > /dev/null"
    throughput("sequential read of a file of the upper", f"{new} --readonly --rw=read --bs=128k", 0.97, made)
    throughput("random 4k reads of it", f"{new} --readonly --rw=randread --bs=4k --io_size=512m", 0.88, made)
    throughput("sequential write of 1 GiB and fsync", f"{new} --rw=write --bs=1m --end_fsync=1", 0.95, "rm -f w/new.bin")
    throughput("random 4k writes", f"{new} --rw=randwrite --bs=4k --io_size=64m --end_fsync=1", 0.6, made)


def server_memory():
    """What a fresh service grows to when all of node-app is walked (82,533 entries)."""
    image("node-app")

    def rss():
        stop_service()
        mount("nacre", "node-app")
        sh(f"cd {point('nacre')}; {WALK}")
        status = open(f"/proc/{service_pid()}/status").read()
        return 1024 * int(re.search(r"VmRSS:\s*(\d+)", status).group(1))

    row("memory of the service after a walk of node-app", [("nacre", nothing, rss)], [(None, 60e6)], unit=MB)
    unmount("nacre")
