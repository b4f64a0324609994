#!/usr/bin/env python3
"""figures.py NACRE ROUNDS [pull|start|walk|touch …]: times nacre and its peers in turn, and prints one table of
medians and ratios.

Every row is a workload; its contenders run in turn within each round, so that a slow minute of the machine hits
all of them. $B holds the images; a registry on 127.0.0.1:5000 serves them."""
import os, shutil, statistics, subprocess, sys, time

NACRE, ROUNDS = os.path.abspath(sys.argv[1]), int(sys.argv[2])
B = os.environ["B"]
WORK = f"{B}/work/figures"
REGISTRY = "127.0.0.1:5000"
ENV = os.environ | {"NACRE_ROOT": f"{WORK}/store", "NACRE_HOST": f"unix://{WORK}/nacre.sock"}
LIMITS = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024"
PODMAN = (f"podman --root {WORK}/podman --runroot {WORK}/podman-run --storage-driver overlay --cgroup-manager cgroupfs "
          "--events-backend none --log-level error")


def sh(command, check=True):
    done = subprocess.run(["bash", "-c", command], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if check and done.returncode:
        sys.exit(f"bench: {command}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def nacre(arguments, check=True):
    return sh(f"{NACRE} {arguments}", check)


def stop_service():
    sh(f"curl -fsS -X POST --unix-socket {WORK}/nacre.sock http://nacre/nacre/shutdown", check=False)
    for _ in range(200):
        if not os.path.exists(f"{WORK}/nacre.sock"):
            return
        time.sleep(0.02)


def drop_caches():
    sh("sync; echo 3 > /proc/sys/vm/drop_caches")


def timed(command):
    start = time.perf_counter()
    sh(command)
    return time.perf_counter() - start


class Row:
    """One workload: contenders as (name, before, command); the first is nacre, the second is what it is held against."""

    def __init__(self, title, goal, contenders, rounds=ROUNDS):
        samples = {name: [] for name, _, _ in contenders}
        for _ in range(rounds):
            for name, before, command in contenders:
                before()
                samples[name].append(timed(command) if isinstance(command, str) else command())
        medians = {name: statistics.median(times) for name, times in samples.items()}
        ours = medians[contenders[0][0]]
        cells = [f"{name} {1000 * value:.0f} ms" + (f" ({ours / value:.2f}x)" if name != contenders[0][0] else "")
                 for name, value in medians.items()]
        print(f"| {title} | {' · '.join(cells)} | {goal} |", flush=True)


def nothing():
    pass


def fresh_nacre():
    stop_service()
    shutil.rmtree(f"{WORK}/store", ignore_errors=True)
    nacre("image ls")
    sh("sync")


def fresh_podman():
    sh(f"{PODMAN} rmi -af", check=False)
    sh("sync")


def pulls():
    for image in ("python-app", "node-app", "many-layers"):
        layers = [f"{B}/images/{image}/blobs/sha256/" + digest.split(":")[1] for digest in layer_digests(image)]
        Row(f"pull {image}", "≤ 0.6 × podman", [
            ("nacre", fresh_nacre, f"{NACRE} pull -q {REGISTRY}/{image}"),
            ("podman", fresh_podman, f"{PODMAN} pull -q --tls-verify=false {REGISTRY}/{image}"),
            ("gzip -dc", nothing, f"gzip -dc {' '.join(layers)} > /dev/null"),
        ])


def layer_digests(image):
    import json
    index = json.load(open(f"{B}/images/{image}/index.json"))
    manifest = index["manifests"][0]["digest"].split(":")[1]
    return [layer["digest"] for layer in json.load(open(f"{B}/images/{image}/blobs/sha256/{manifest}"))["layers"]]


def starts():
    for image in ("debian-min", "many-layers"):
        both_have(image)
    point = f"{WORK}/point"
    os.makedirs(point, exist_ok=True)

    def unmount():
        nacre(f"umount {point}", check=False)

    def first_ls(image):
        return f"{NACRE} mount --read-only {REGISTRY}/{image} {point} && ls {point} > /dev/null"

    Row("mount to first ls, 1 layer · 31 layers", "≤ 20 ms, within 1.2 ×", [
        ("1 layer", unmount, first_ls("debian-min")), ("31 layers", unmount, first_ls("many-layers"))], rounds=4 * ROUNDS)
    unmount()
    Row("run --rm debian-min true", "≤ 100 ms", [
        ("nacre", nothing, f"{NACRE} run --rm --network none {REGISTRY}/debian-min true"),
        ("podman+crun", nothing, f"{PODMAN} --runtime crun run --rm --network=none {LIMITS} {REGISTRY}/debian-min true")])


def walk(path):
    return f"find {path} -printf '%s%m' > /dev/null"


def both_have(image):
    nacre(f"pull -q {REGISTRY}/{image}")
    sh(f"{PODMAN} pull -q --tls-verify=false {REGISTRY}/{image}")


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

    Row("walk of node-app with stat, cold", "≤ overlayfs", [
        ("nacre", lambda: mount_both(True), walk(view)), ("overlayfs", lambda: mount_both(True), walk(overlay))])
    mount_both(False)
    Row("walk of node-app with stat, warm", "≤ overlayfs", [
        ("nacre", nothing, walk(view)), ("overlayfs", nothing, walk(overlay))])
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

    Row("touch of 5,000 lower files, cold", "≤ 3 × ext4", [
        ("nacre", again, touch(rw)), ("ext4", drop_caches, touch(plain)), ("overlayfs", drop_caches, touch(overlay))])
    nacre(f"umount {rw}")
    sh(f"umount {overlay}")


def main():
    stop_service()
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK)
    print("| workload | medians (nacre as a multiple of each) | goal |\n|---|---|---|")
    try:
        rows = {"pull": pulls, "start": starts, "walk": walks, "touch": touches}
        for name in sys.argv[3:] or rows:
            rows[name]()
    finally:
        for place in ("view", "rw", "overlay", "point"):
            sh(f"umount -l {WORK}/{place}", check=False)
        stop_service()
        sh(f"{PODMAN} system reset -f", check=False)


main()
