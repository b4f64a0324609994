"""The contenders: nacre with stores of its own, podman with graph roots of its own, and four filesystems that show one tree.

What is only read lies in one store and one graph root below $B/work/figures, made once per program and kept between runs."""
import fcntl, http.client, json, os, shutil, signal, socket, subprocess, time

import fresh
from machine import B, IMAGES, NACRE, REGISTRY, WORK, Failed, made, settle, sh, unmount

LIMITS = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024"   # what podman asks for may be more than root may have
STOP_SECONDS_MAX = 20


class Store:
    """A store of nacre's and the service on it."""

    def __init__(self, root):
        self.root, self.socket = root, f"{root}.sock"

    def command(self, arguments):
        return f"NACRE_ROOT={self.root} NACRE_HOST=unix://{self.socket} {NACRE} {arguments}"

    def run(self, arguments, check=True):
        return sh(self.command(arguments), check)

    def pull(self, image):
        self.run(f"pull -q {REGISTRY}/{image}")

    def has(self, image):
        return bool(self.run(f"image ls -q {image}"))

    def is_owned(self):
        """Whether a service has the store. Its mark says nothing about that: kill -9 leaves it behind."""
        try:
            with open(f"{self.root}/lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True

    def pid(self):
        if not self.is_owned():
            raise Failed(f"no service has {self.root}")
        with open(f"{self.root}/lock") as lock:
            return int(lock.read())

    def stop(self):
        if self.is_owned():
            self.run("service --stop", check=False)
        self._wait_for_end()

    def kill(self):
        os.kill(self.pid(), signal.SIGKILL)
        self._wait_for_end()

    def end(self):
        """Stops it, or kills it: a row that failed may have left something that keeps it."""
        try:
            self.stop()
        except Failed:
            self.kill()

    def _wait_for_end(self):
        end = time.monotonic() + STOP_SECONDS_MAX
        while self.is_owned():
            if time.monotonic() > end:
                raise Failed(f"the service on {self.root} does not stop")
            time.sleep(0.005)

    def start(self):
        """Starts a service in the foreground. Returns it and the seconds until it has answered a request."""
        begin = time.perf_counter()
        service = subprocess.Popen([NACRE, "--root", self.root, "-H", f"unix://{self.socket}", "service"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not self._answers():
            if service.poll() is not None:
                raise Failed(f"the service on {self.root} ended with {service.returncode}")
            time.sleep(0.0005)
        return service, time.perf_counter() - begin

    def _answers(self):
        try:
            connection = http.client.HTTPConnection("nacre")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(self.socket)
            connection.request("GET", "/_ping")
            return connection.getresponse().status == 200
        except OSError:
            return False


MAIN = Store(f"{WORK}/store")


def fresh_store():
    """A service on an empty store, on a filesystem of its own."""
    store = Store(f"{fresh.PLACE}/store")
    fresh.make()
    fresh.before_leaving(store.end)
    made(store.root)
    store.run("image ls")
    settle()
    return store


def podman(root):
    return (f"TMPDIR={made(f'{root}.tmp')} podman --root {root} --runroot {root}.run --storage-driver overlay "
            "--cgroup-manager cgroupfs --events-backend none --log-level error")


MAIN_PODMAN = f"{WORK}/podman"


def fresh_podman():
    """The same for podman. Its first command makes the graph root; that is not counted."""
    root = f"{fresh.PLACE}/podman"
    fresh.make()
    sh(f"{podman(root)} images")
    settle()
    return podman(root)


def podman_pull(command, image):
    return f"{command} pull -q --tls-verify=false {REGISTRY}/{image}"


def both_have(image):
    if not MAIN.has(f"{REGISTRY}/{image}"):
        MAIN.pull(image)
    command = podman(MAIN_PODMAN)
    sh(f"{command} image exists {REGISTRY}/{image}:latest || {podman_pull(command, image)}")


def layer_files(image):
    """The compressed layers of an image of the bench."""
    blobs = f"{B}/images/{image}/blobs/sha256"
    with open(f"{B}/images/{image}/index.json") as file:
        index = json.load(file)
    with open(f"{blobs}/{index['manifests'][0]['digest'].split(':')[1]}") as file:
        manifest = json.load(file)
    return [f"{blobs}/{layer['digest'].split(':')[1]}" for layer in manifest["layers"]]


def servers(is_one):
    """The processes whose command line is one, by their numbers."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue   # it has ended meanwhile
        if is_one(words):
            yield int(pid)


def is_running(pid):
    """Not so when it is a zombie: some machines have no init that takes them away."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Filesystem:
    """One way to show a tree at `place`. What is written goes to `own`, which each opening begins anew."""
    name = ""
    passthrough = False   # of a read-only mount that has a profile for it

    def __init__(self, tree, own, read_only=False):
        self.tree, self.own, self.read_only = tree, f"{own}/{self.name}", read_only
        self.place = f"{WORK}/mnt/{self.name}-{'ro' if read_only else 'rw'}"

    def open(self):
        """Mounted, with nothing changed in it."""
        self.close()
        made(self.place)
        self.begin()
        self.mount()

    def remount(self):
        """As after a boot: what was changed is kept, and no server remembers anything."""
        unmount(self.place)
        self.forget()
        self.mount()

    def close(self):
        unmount(self.place)

    def begin(self):
        shutil.rmtree(self.own, ignore_errors=True)
        self.upper, self.work = made(f"{self.own}/upper"), made(f"{self.own}/work")

    def forget(self):
        pass

    def at(self, command):
        return f"cd {self.place} && {{ {command}; }}"

    def do(self, command):
        return sh(self.at(command))

    def layers(self):
        numbers = sorted(os.listdir(f"{B}/layers/{self.tree}"), key=int, reverse=True)
        return ":".join(f"{B}/layers/{self.tree}/{number}" for number in numbers)

    def overlay_options(self):
        upper = "" if self.read_only else f",upperdir={self.upper},workdir={self.work}"
        return f"lowerdir={self.layers()}{upper}"


class Nacre(Filesystem):
    """`store`: MAIN, or one on a fresh filesystem, which has the tree as an image."""
    name = "nacre"
    opened = 0

    def __init__(self, tree, own, read_only=False, store=None):
        super().__init__(tree, own, read_only)
        self.store, self.kept = store or MAIN, None

    def image(self):
        return f"{REGISTRY}/{self.tree}" if self.tree in IMAGES else f"bench/{self.tree}"

    def begin(self):
        if self.read_only:
            return
        Nacre.opened += 1
        self.kept = f"bench-{os.getpid()}-{Nacre.opened}"

    def mount(self):
        how = "--read-only" if self.read_only else f"--name {self.kept}"
        how += " --passthrough" if self.passthrough else ""
        self.store.run(f"mount {how} {self.image()} {self.place}")

    def remount(self):
        self._take_away()
        self.store.stop()
        self.mount()

    def close(self):
        self._take_away()
        if self.kept:
            self.store.run(f"rm {self.kept}")
            self.kept = None

    def _take_away(self):
        if os.path.ismount(self.place):
            self.store.run(f"umount {self.place}", check=False)
        unmount(self.place)   # of a server that is gone, if anything is left


class Ext4(Filesystem):
    """The tree itself. It has no image to fall back to: what is changed in it stays."""
    name = "ext4"

    def begin(self):
        pass

    def mount(self):
        sh(f"mount --bind {B}/flat/{self.tree} {self.place}")


class Overlayfs(Filesystem):
    name = "overlayfs"

    def mount(self):
        sh(f"mount -t overlay overlay -o {'ro,' if self.read_only else ''}{self.overlay_options()} {self.place}")


class FuseOverlayfs(Filesystem):
    name = "fuse-overlayfs"

    def mount(self):
        sh(f"fuse-overlayfs -o {self.overlay_options()} {self.place}")

    def pid(self):
        """The server of this mount, by its command line."""
        return next(servers(lambda words: words[0].endswith("fuse-overlayfs") and self.place in words), None)

    def forget(self):
        """The next server may use the upper when this one has gone."""
        while self.pid():
            time.sleep(0.01)

    def close(self):
        super().close()
        self.forget()


FILESYSTEMS = (Nacre, Ext4, Overlayfs, FuseOverlayfs)


def all_of(tree, read_only=False):
    """The four of them over one tree; nacre on MAIN, the uppers on the disk itself."""
    need(tree)
    return [kind(tree, f"{WORK}/own", read_only) for kind in FILESYSTEMS]


def need(tree, store=None):
    """The tree as an image of the store."""
    store = store or MAIN
    image = Nacre(tree, "", True).image()
    if store.has(image):
        return
    if tree in IMAGES:
        store.pull(tree)
    else:
        sh(f"tar -S --xattrs --numeric-owner -C {B}/flat/{tree} -c . | {store.command(f'import - {image}')}")


def make_ready(of):
    """Stores of another program go: its format, or what it packs, may be another."""
    made(WORK)
    end_left_over_servers()
    clean_up()
    mark = f"{WORK}/program"
    if not os.path.exists(mark) or open(mark).read() != of["sha256"]:
        for store in (MAIN.root, f"{WORK}/starts"):
            shutil.rmtree(store, ignore_errors=True)
        with open(mark, "w") as file:
            file.write(of["sha256"])
    made(MAIN.root)
    kept = MAIN.run("mount --format '{{.Name}}'").split()
    for name in (name for name in kept if name.startswith("bench-")):
        MAIN.run(f"rm {name}")   # of a run that was cut short
    MAIN.stop()


def end_left_over_servers():
    """Of a run that was killed: they live on in its mount namespace, and would keep its loop file and its stores."""
    def is_ours(words):
        program = os.path.basename(words[0])
        return program in ("nacre-service", "nacre", "fuse-overlayfs") and any(word.startswith(f"{WORK}/") for word in words)

    left = list(servers(is_ours))
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    while any(map(is_running, left)):
        time.sleep(0.01)


def clean_up():
    """No mount, container or service of ours is left."""
    if os.path.isdir(f"{WORK}/mnt"):
        for place in os.listdir(f"{WORK}/mnt"):
            unmount(f"{WORK}/mnt/{place}")
    unmount(fresh.PLACE)
    if os.path.isdir(MAIN.root):
        MAIN.run("rm -f bench", check=False)
        MAIN.stop()
    if os.path.isdir(MAIN_PODMAN):
        sh(f"{podman(MAIN_PODMAN)} rm -f -t 0 bench", check=False)
