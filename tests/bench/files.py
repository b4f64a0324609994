"""Rows about files in a mount: overlayfs and ext4 are the peers."""
import os, shutil

from machine import PODMAN, REGISTRY, WORK, both_have, drop_caches, nacre, nothing, sh
from table import row


def walk(path):
    return f"find {path} -printf '%s%m' > /dev/null"


def overlay_lowers():
    """The layers of node-app as podman has unpacked them, for a kernel overlay of our own."""
    both_have("node-app")
    for place in ("view", "rw", "overlay", "upper", "workdir"):
        os.makedirs(f"{WORK}/{place}", exist_ok=True)
    sh(f"{PODMAN} image mount {REGISTRY}/node-app")
    lowers = sh(f"{PODMAN} image inspect {REGISTRY}/node-app --format '{{{{.GraphDriver.Data.UpperDir}}}}:{{{{.GraphDriver.Data.LowerDir}}}}'")
    sh(f"{PODMAN} image umount {REGISTRY}/node-app")
    return lowers


def walks():
    view, overlay, lowers = f"{WORK}/view", f"{WORK}/overlay", overlay_lowers()

    def mount_both(cold):
        nacre(f"umount {view}", check=False)
        sh(f"umount {overlay}", check=False)
        nacre(f"mount --read-only {REGISTRY}/node-app {view}")
        sh(f"mount -t overlay overlay -o lowerdir={lowers},upperdir={WORK}/upper,workdir={WORK}/workdir {overlay}")
        if cold:
            drop_caches()
        else:
            sh(f"{walk(view)}; {walk(overlay)}")

    row("walk of node-app with stat, cold", [
        ("nacre", lambda: mount_both(True), walk(view)), ("overlayfs", lambda: mount_both(True), walk(overlay))],
        [("overlayfs", 1)])
    mount_both(False)
    row("the same, warm", [("nacre", nothing, walk(view)), ("overlayfs", nothing, walk(overlay))], [("overlayfs", 1)])
    nacre(f"umount {view}")
    sh(f"umount {overlay}")


def touches():
    rw, overlay, plain = f"{WORK}/rw", f"{WORK}/overlay", f"{WORK}/plain"
    lowers = overlay_lowers()
    names = f"{WORK}/names"
    nacre(f"mount --read-only {REGISTRY}/node-app {rw}")
    sh(f"cd {rw} && find app/node_modules -type f | sort | head -n 5000 > {names}")
    nacre(f"umount {rw}")
    counter = iter(range(1_000_000))

    def again():
        number = next(counter)
        nacre(f"umount {rw}", check=False)
        sh(f"umount {overlay}", check=False)
        shutil.rmtree(plain, ignore_errors=True)
        for place in ("upper", "workdir"):
            shutil.rmtree(f"{WORK}/{place}", ignore_errors=True)
            os.makedirs(f"{WORK}/{place}")
        nacre(f"mount --name touch{number} {REGISTRY}/node-app {rw}")
        sh(f"mount -t overlay overlay -o lowerdir={lowers},upperdir={WORK}/upper,workdir={WORK}/workdir {overlay}")
        sh(f"mkdir {plain} && cd {rw} && cpio -pdm --quiet {plain} < {names}")
        drop_caches()

    def touch(place):
        return f"cd {place} && xargs touch < {names}"

    row("touch of 5,000 lower files, cold", [
        ("nacre", again, touch(rw)), ("ext4", drop_caches, touch(plain)), ("overlayfs", drop_caches, touch(overlay))],
        [("ext4", 3)])
    nacre(f"umount {rw}")
    sh(f"umount {overlay}")
