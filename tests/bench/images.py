"""Rows about images on their way in and out, and what they cost in memory and on disk."""
import os

from machine import (B, IMAGES, NACRE, PODMAN, REGISTRY, ROUNDS, STORE, WORK, both_have, disk_bytes, fresh_nacre, fresh_podman,
                     layer_files, nacre, nothing, podman_pull, service_pid, sh, stop_service)
from table import MB, row

BIG = ("python-app", "node-app", "many-layers")


def pulls():
    for image, factor in zip(BIG, (0.35, 0.35, 0.5)):
        row(f"pull {image}", [
            ("nacre", fresh_nacre, f"{NACRE} pull -q {REGISTRY}/{image}"),
            ("podman", fresh_podman, podman_pull(image)),
            ("gzip -dc", nothing, f"gzip -dc {' '.join(layer_files(image))} > /dev/null"),
        ], [("podman", factor), ("gzip -dc", 1.3)])


def loads():
    for image in BIG:
        archive = f"{B}/images/{image}.docker.tar"
        row(f"load {image}.docker.tar", [
            ("nacre", fresh_nacre, f"{NACRE} load -q -i {archive}"),
            ("podman", fresh_podman, f"{PODMAN} load -q -i {archive}"),
        ], [("podman", 0.35)])


def pulls_again():
    both_have("node-app")
    row("pull of what is there (node-app)", [
        ("nacre", nothing, f"{NACRE} pull -q {REGISTRY}/node-app"),
        ("podman", nothing, podman_pull("node-app")),
    ], [(None, 0.05)], rounds=4 * ROUNDS)


def pushes():
    """100 MB of what images are made of, committed. The service forgets between the rounds what it compressed."""
    nacre(f"pull -q {REGISTRY}/debian-min")
    content, point = f"{WORK}/content", f"{WORK}/rw"
    os.makedirs(point, exist_ok=True)
    sh(f"gzip -dc {layer_files('node-app')[-1]} | head -c 100000000 > {content}; test -s {content}", check=False)
    nacre(f"mount --name pushed {REGISTRY}/debian-min {point}")
    sh(f"cp {content} {point}/content")
    nacre(f"umount {point}")
    nacre(f"commit pushed {REGISTRY}/pushed")
    nacre("rm pushed")

    def forget():
        stop_service()
        nacre("image ls")

    row("push of a committed layer of 100 MB", [
        ("nacre", forget, f"{NACRE} push -q {REGISTRY}/pushed"),
        ("gzip -6", nothing, f"gzip -6 -c {content} > {content}.gz"),
    ], [("gzip -6", 1.2)])


def memory():
    def peak(image):
        nacre(f"pull -q {REGISTRY}/{image}")
        status = open(f"/proc/{service_pid()}/status").read()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    for image in ("python-app", "node-app"):
        row(f"peak memory of the service, pull {image}", [("nacre", fresh_nacre, lambda: peak(image))],
            [(None, 300e6)], unit=MB)


def disk():
    fresh_nacre()
    fresh_podman()
    for image in IMAGES:
        both_have(image)
    stop_service()
    sh("sync")
    theirs = ("podman's graph root", nothing, lambda: disk_bytes(f"{WORK}/podman"))
    row("disk for the four images, with the received archives", [("nacre", nothing, lambda: disk_bytes(STORE)), theirs],
        [("podman's graph root", 1.1)], rounds=1, unit=MB)
    row("the same, without the received archives", [
        ("nacre", nothing, lambda: disk_bytes(STORE, leave_out="archives")), theirs],
        [("podman's graph root", 0.7)], rounds=1, unit=MB)
