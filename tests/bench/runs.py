"""Rows about milliseconds: mounting, running, and the service's own start."""
import os, shutil

from machine import (LIMITS, NACRE, PODMAN, REGISTRY, ROUNDS, STORE, WORK, both_have, fresh_nacre, kill_service, nacre, nothing,
                     sh, start_service, stop_service)
from table import row

MANY = 500


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


def service_starts():
    """A store with 500 images, each with a layer of its own; left cleanly, and as kill -9 leaves it."""
    fresh_nacre()
    nacre(f"pull -q {REGISTRY}/debian-min")
    point, killed = f"{WORK}/rw", f"{WORK}/killed"
    os.makedirs(point, exist_ok=True)
    nacre(f"mount --name many {REGISTRY}/debian-min {point}")
    for number in range(1, MANY):
        with open(f"{point}/number", "w") as file:
            file.write(f"{number}\n" * 100)
        nacre(f"commit many many:{number}")
    nacre(f"umount {point}")
    kill_service()
    sh(f"rm -rf {killed} && cp -a {STORE} {killed}")

    def measured():
        service, seconds = start_service()
        assert sh(f"{NACRE} image ls -q | wc -l") == str(MANY)
        stop_service()
        service.wait()
        return seconds

    def as_killed():
        shutil.rmtree(STORE)
        sh(f"cp -a {killed} {STORE}; sync")

    row(f"start of the service, {MANY} images, after kill -9", [("nacre", as_killed, measured)], [(None, 0.5)])
    row(f"start of the service, {MANY} images, clean", [("nacre", nothing, measured)], [(None, 0.1)])
    shutil.rmtree(killed)
    shutil.rmtree(STORE)
