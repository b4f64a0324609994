"""Rows about images on their way in and out, and what they cost in memory and on disk. podman is the peer."""
import os, shutil, subprocess, time
from functools import partial

from contenders import MAIN, MAIN_PODMAN, both_have, fresh_podman, fresh_store, layer_files, podman, podman_pull
from machine import B, IMAGES, REGISTRY, ROUNDS, WORK, Failed, disk_bytes, made, settle, sh, status_bytes, timed
from rows import Contender, Row, at_most

PUSHED_BYTES = 100_000_000
GZIP_LEVEL = 6   # GZIP_LEVEL of src/transfer/sources.rs
EMPTY_REGISTRY = "127.0.0.1:5077"


def pull(image):
    """Each into an empty store. gzip reads what the registry serves, from the page cache too, and writes nothing."""
    layers = " ".join(layer_files(image))
    sh(f"cat {layers} {B}/registry/docker/registry/v2/blobs/sha256/*/*/data > /dev/null")
    yield [
        Contender("nacre", lambda: timed(fresh_store().command(f"pull -q {REGISTRY}/{image}"))),
        Contender("podman", lambda: timed(podman_pull(fresh_podman(), image))),
        Contender("gzip -dc", f"gzip -dc {layers} > /dev/null"),
    ]


def load(image):
    archive = f"{B}/images/{image}.docker.tar"
    sh(f"cat {archive} > /dev/null")
    yield [
        Contender("nacre", lambda: timed(fresh_store().command(f"load -q -i {archive}"))),
        Contender("podman", lambda: timed(f"{fresh_podman()} load -q -i {archive}")),
    ]


def pull_again():
    both_have("node-app")
    yield [
        Contender("nacre", MAIN.command(f"pull -q {REGISTRY}/node-app")),
        Contender("podman", podman_pull(podman(MAIN_PODMAN), "node-app")),
    ]


class EmptyRegistry:
    """A registry that has never seen a layer: what it has is not pushed again."""

    def __init__(self):
        self.home, self.process = f"{WORK}/registry", None

    def begin(self):
        self.end()
        shutil.rmtree(self.home, ignore_errors=True)
        made(self.home)
        with open(f"{self.home}/registry.yml", "w") as file:
            file.write(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
                       f"storage: {{filesystem: {{rootdirectory: {self.home}/data}}}}\nhttp: {{addr: {EMPTY_REGISTRY}}}\n")
        self.process = subprocess.Popen(["docker-registry", "serve", f"{self.home}/registry.yml"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env=os.environ | {"OTEL_TRACES_EXPORTER": "none"})
        while subprocess.run(["curl", "-fsS", f"http://{EMPTY_REGISTRY}/v2/"], capture_output=True).returncode:
            if self.process.poll() is not None:
                raise Failed(f"no registry on {EMPTY_REGISTRY}")
            time.sleep(0.02)

    def end(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None


def hundred_megabytes(place):
    """Packages of node-app, one after the other, until there are 100 MB: what a layer is made of."""
    source, left = f"{B}/flat/node-app/app/node_modules", PUSHED_BYTES
    made(place)
    for package in sorted(os.listdir(source)):
        if left <= 0:
            return
        sh(f"cp -a {source}/{package} {place}/")
        left -= sum(os.lstat(f"{at}/{name}").st_size for at, _, names in os.walk(f"{place}/{package}") for name in names)


def commit_packages(store, tar):
    """An image of debian-min and a layer of 100 MB; the layer's content also as a tar, for gzip."""
    place = made(f"{WORK}/mnt/pushed")
    store.pull("debian-min")
    store.run(f"mount --name pushed {REGISTRY}/debian-min {place}")
    try:
        hundred_megabytes(f"{place}/packages")
        sh(f"tar -C {place} -cf {tar} packages")
    finally:
        store.run(f"umount {place}")
    store.run(f"commit pushed {EMPTY_REGISTRY}/pushed")
    store.run(f"tag {REGISTRY}/debian-min {EMPTY_REGISTRY}/pushed:base")


def push():
    """The base is there already; the committed layer is not, and the service has not compressed it before."""
    store, registry, tar = fresh_store(), EmptyRegistry(), f"{WORK}/pushed.tar"

    def ready():
        registry.begin()
        store.stop()
        store.run(f"push -q {EMPTY_REGISTRY}/pushed:base")
        sh(f"cat {tar} > /dev/null; sync")

    gzip = f"gzip -{GZIP_LEVEL}"
    try:
        commit_packages(store, tar)
        yield [
            Contender("nacre", store.command(f"push -q {EMPTY_REGISTRY}/pushed:latest"), ready),
            Contender(gzip, f"{gzip} -c {tar} > {tar}.gz"),
        ]
    finally:
        registry.end()
        shutil.rmtree(registry.home, ignore_errors=True)
        sh(f"rm -f {tar} {tar}.gz")


def memory(image):
    def peak():
        store = fresh_store()
        store.pull(image)
        return status_bytes(store.pid(), "VmHWM")

    yield [Contender("nacre", peak)]


def disk(reclaimed):
    """Both with the four images and nothing else; ours at rest, its log written out."""
    graph_root = podman(MAIN_PODMAN)
    for image in IMAGES:
        both_have(image)
    theirs = sh(f"{graph_root} images -q | sort -u | wc -l")
    if theirs != str(len(IMAGES)):
        raise Failed(f"{MAIN_PODMAN} has {theirs} images")

    def ours():
        store = fresh_store()
        for image in IMAGES:
            store.pull(image)
        if reclaimed:
            store.run("system reclaim -f")
        store.stop()
        settle()
        return disk_bytes(store.root)

    yield [Contender("nacre", ours), Contender("podman's graph root", lambda: disk_bytes(MAIN_PODMAN))]


ROWS = [
    *(Row(f"pull-{image}", f"pull {image}", partial(pull, image), (at_most(factor, "podman"), at_most(1.3, "gzip -dc")))
      for image, factor in (("python-app", 0.35), ("node-app", 0.35), ("many-layers", 0.5))),
    *(Row(f"load-{image}", f"load {image}.docker.tar", partial(load, image), (at_most(0.35, "podman"),))
      for image in ("python-app", "node-app", "many-layers")),
    Row("pull-again", "pull of what is there (node-app)", pull_again, (at_most(0.05),), rounds=4 * ROUNDS),
    Row("push", "push of a committed layer of 100 MB", push, (at_most(1.2, f"gzip -{GZIP_LEVEL}"),)),
    *(Row(f"memory-{image}", f"peak memory of the service, pull {image}", partial(memory, image), (at_most(300e6),), unit="B")
      for image in ("python-app", "node-app")),
    Row("disk-with-archives", "disk for the four images, with the received archives", partial(disk, False),
        (at_most(1.1, "podman's graph root"),), unit="B"),
    Row("disk", "disk for the four images, archives given up", partial(disk, True),
        (at_most(0.7, "podman's graph root"),), unit="B"),
]
