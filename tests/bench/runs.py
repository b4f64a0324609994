"""Rows about milliseconds: mounting, running, and the service's own start."""
import os, shutil

from machine import (LIMITS, NACRE, PODMAN, REGISTRY, ROUNDS, STORE, WORK, both_have, fresh_nacre, kill_service, nacre, nothing,
                     sh, start_service, stop_service)
from table import row

MANY = 500
OVERRIDES = 100_000


def mounts():
    point = f"{WORK}/point"
    os.makedirs(point, exist_ok=True)
    for image in ("debian-min", "many-layers"):
        nacre(f"pull -q {REGISTRY}/{image}")

    def unmount():
        nacre(f"umount {point}", check=False)

    def first_ls(image):
        return f"{NACRE} mount --read-only {REGISTRY}/{image} {point} && ls {point} > /dev/null"

    row("mount to first ls, 31 layers", [
        ("nacre", unmount, first_ls("many-layers")), ("1 layer", unmount, first_ls("debian-min"))],
        [(None, 0.02), ("1 layer", 1.2)], rounds=4 * ROUNDS)
    unmount()


def runs():
    both_have("debian-min")
    row("run --rm debian-min true", [
        ("nacre", nothing, f"{NACRE} run --rm --network none {REGISTRY}/debian-min true"),
        ("podman+crun", nothing, f"{PODMAN} --runtime crun run --rm --network=none {LIMITS} {REGISTRY}/debian-min true")],
        [(None, 0.06)], rounds=4 * ROUNDS)


def execs():
    both_have("debian-min")
    nacre(f"run -d --name bench --network none {REGISTRY}/debian-min sleep 10000")
    sh(f"{PODMAN} --runtime crun run -d --name bench --network=none {LIMITS} {REGISTRY}/debian-min sleep 10000")
    row("exec … true", [
        ("nacre", nothing, f"{NACRE} exec bench true"),
        ("podman+crun", nothing, f"{PODMAN} --runtime crun exec bench true")],
        [(None, 0.04)], rounds=4 * ROUNDS)
    nacre("rm -f bench")
    sh(f"{PODMAN} rm -f -t 0 bench")


def killed_service():
    """Leaves a store as kill -9 does; returns a function that puts it back like that, and one that removes it."""
    killed = f"{WORK}/killed"
    kill_service()
    sh(f"rm -rf {killed} && cp -a {STORE} {killed}")

    def as_killed():
        shutil.rmtree(STORE)
        sh(f"cp -a {killed} {STORE}; sync")

    return as_killed, lambda: shutil.rmtree(killed)


def started(check):
    service, seconds = start_service()
    check()
    stop_service()
    service.wait()
    return seconds


def service_starts():
    """A store with 500 images, each with a layer of its own; left cleanly, and as kill -9 leaves it. Then one with a large
    writable layer: every file of it has a data file that may be a leftover."""
    fresh_nacre()
    nacre(f"pull -q {REGISTRY}/debian-min")
    point = f"{WORK}/rw"
    os.makedirs(point, exist_ok=True)
    nacre(f"mount --name many {REGISTRY}/debian-min {point}")
    for number in range(1, MANY):
        with open(f"{point}/number", "w") as file:
            file.write(f"{number}\n" * 100)
        nacre(f"commit many many:{number}")
    nacre(f"umount {point}")
    as_killed, done = killed_service()

    def has_all():
        assert sh(f"{NACRE} image ls -q | wc -l") == str(MANY)

    row(f"start of the service, {MANY} images, after kill -9", [("nacre", as_killed, lambda: started(has_all))], [(None, 0.5)])
    row(f"start of the service, {MANY} images, clean", [("nacre", nothing, lambda: started(has_all))], [(None, 0.1)])
    done()

    fresh_nacre()
    nacre(f"pull -q {REGISTRY}/debian-min")
    nacre(f"mount --name many {REGISTRY}/debian-min {point}")
    for number in range(OVERRIDES):
        if number % 1000 == 0:
            os.mkdir(f"{point}/{number}")
        with open(f"{point}/{number // 1000 * 1000}/{number}", "w") as file:
            file.write("content")
    as_killed, done = killed_service()
    row(f"start of the service, {OVERRIDES:,} files in a writable layer, after kill -9",
        [("nacre", as_killed, lambda: started(nothing))], [(None, 0.5)])
    done()
    shutil.rmtree(STORE)
