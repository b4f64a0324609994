"""Rows about one large file: throughput of reads and writes, one byte into it, and how often the page cache holds it."""
import json, os, time
from functools import partial

from contenders import FILESYSTEMS, all_of, need
from machine import B, WORK, Failed, drop_caches, made, settle, sh
from rows import Contender, Row, at_least, at_most
from trees import close, mounted

LOWER, UPPER = "big.bin", "w/new.bin"   # of the tree `work`: 1 GiB of noise, and a directory to write in
SEQUENTIAL_READ = "--readonly --rw=read --bs=128k --size=1g --io_size=4g"   # four times, for a figure of more than 0.2 s
RANDOM_READ = "--readonly --rw=randread --bs=4k --size=1g --io_size=512m"
SEQUENTIAL_WRITE = "--rw=write --bs=1m --size=1g --end_fsync=1"
RANDOM_WRITE = "--rw=randwrite --bs=4k --size=1g --io_size=64m --end_fsync=1"
SPARSE_BYTES, ENDS_BYTES = 5 << 30, 64 << 10


def fio(file, job):
    """The throughput of the job alone, the final fsync within it."""
    out = sh(f"fio --name=x --ioengine=psync --direct=0 --invalidate=0 --fallocate=none --output-format=json --filename={file} {job}")
    result = json.loads(out[out.index("{"):])["jobs"][0]
    side = max((result["read"], result["write"]), key=lambda side: side["io_bytes"])
    return side["io_bytes"] / (side["runtime"] / 1000)


def throughput(file, job, once="true", before="true", read_only=False):
    """`once` makes ready, `before` each round; then everything is on disk, and what was read is in the page cache."""
    def ready(filesystem):
        def get_ready():
            filesystem.do(before)
            settle()
        return get_ready

    filesystems = mounted("work", read_only, passthrough=read_only)
    try:
        for filesystem in filesystems:
            filesystem.do(once)
        yield [Contender(filesystem.name, partial(fio, f"{filesystem.place}/{file}", job), ready(filesystem))
               for filesystem in filesystems]
    finally:
        for filesystem in filesystems:
            if filesystem.name == "ext4":   # it has no upper to throw away
                filesystem.do(f"rm -f {UPPER}")
        close(filesystems)


def one_byte(tree, file):
    """Opening a file of the image for writing, one byte into its middle, and closing it."""
    def ready(filesystem):
        def get_ready():
            filesystem.open()
            sh(f"head -c 1M {filesystem.place}/{file} > /dev/null")
            settle()
        return get_ready

    def write(filesystem):
        begin = time.perf_counter()
        descriptor = os.open(f"{filesystem.place}/{file}", os.O_WRONLY)
        os.pwrite(descriptor, b"x", os.fstat(descriptor).st_size // 2)
        os.close(descriptor)
        return time.perf_counter() - begin

    make_sparse()
    filesystems = all_of(tree)
    try:
        yield [Contender(filesystem.name, partial(write, filesystem), ready(filesystem)) for filesystem in filesystems]
    finally:
        close(filesystems)


def make_sparse():
    """A tree with a file of 5 GiB that has 64 KiB of content at each end, as a lower layer and as ext4's own."""
    for home in ("layers/sparse/0", "flat/sparse"):
        file = f"{made(f'{B}/{home}')}/sparse.bin"
        if not os.path.exists(file):
            with open(f"{file}.part", "wb") as sparse:
                sparse.write(os.urandom(ENDS_BYTES))
                sparse.seek(SPARSE_BYTES - ENDS_BYTES)
                sparse.write(os.urandom(ENDS_BYTES))
            os.rename(f"{file}.part", file)


def cached_bytes():
    for line in open("/proc/meminfo"):
        if line.startswith("Cached:"):
            return 1024 * int(line.split()[1])
    raise Failed("/proc/meminfo has no Cached")


def two_mounts(kind):
    first, second = (kind("work", f"{WORK}/own", read_only=True) for _ in range(2))
    second.place = f"{first.place}-second"
    return first, second


def page_cache():
    """Growth while the file is read through one mount and then through the other."""
    def grown(pair):
        for filesystem in pair:
            filesystem.open()
        drop_caches()
        before = cached_bytes()
        for filesystem in pair:
            filesystem.do(f"cat {LOWER} > /dev/null")
        growth = cached_bytes() - before
        close(pair)
        return growth

    need("work")
    pairs = {kind.name: two_mounts(kind) for kind in FILESYSTEMS}
    try:
        yield [Contender(name, partial(grown, pair)) for name, pair in pairs.items()]
    finally:
        for pair in pairs.values():
            close(pair)


def rows_of_reads(name, what, file, once, goals, read_only=False):
    sequential, random = goals
    ready = f"{once}; cat {file} > /dev/null"
    return [
        Row(f"{name}-seq-read", f"sequential read of {what}, warm", partial(throughput, file, SEQUENTIAL_READ, ready, read_only=read_only),
            (at_least(sequential, "ext4"),), unit="B/s"),
        Row(f"{name}-rand-read", f"random 4k reads of {what}, warm", partial(throughput, file, RANDOM_READ, ready, read_only=read_only),
            (at_least(random, "ext4"),), unit="B/s"),
    ]


MAKE_UPPER = f"cp {LOWER} {UPPER}; sync {UPPER}"

ROWS = [
    *rows_of_reads("upper", "a file of 1 GiB of the upper", UPPER, MAKE_UPPER, (0.97, 0.88)),
    *rows_of_reads("ro", "a file of 1 GiB, read-only mount with passthrough", LOWER, "true", (0.97, 0.88), read_only=True),
    *rows_of_reads("lower", "a lower file of 1 GiB, writable mount", LOWER, "true", (0.65, 0.8)),
    Row("seq-write", "sequential write of 1 GiB and fsync", partial(throughput, UPPER, SEQUENTIAL_WRITE, before=f"rm -f {UPPER}"),
        (at_least(0.95, "ext4"),), unit="B/s"),
    Row("rand-write", "random 4k writes into 1 GiB, 64 MiB, and fsync",
        partial(throughput, UPPER, RANDOM_WRITE, f"{MAKE_UPPER}; cat {UPPER} > /dev/null"), (at_least(0.6, "ext4"),), unit="B/s"),
    Row("byte-sparse", "1 byte into a sparse lower file of 5 GiB", partial(one_byte, "sparse", "sparse.bin"), (at_most(0.01),)),
    Row("byte-dense", "1 byte into a dense lower file of 1 GiB", partial(one_byte, "work", LOWER), (at_most(0.01),)),
    Row("page-cache", "growth of the page cache: 1 GiB read through two read-only mounts of one image", page_cache,
        (at_most(1.1, "overlayfs"),), unit="B"),
]
