"""The machine and the contenders: shell commands, nacre with a store of its own, podman with one of its own."""
import http.client, json, os, shutil, signal, socket, subprocess, sys, time

NACRE, ROUNDS = os.path.abspath(sys.argv[1]), int(sys.argv[2])
B = os.environ["B"]
WORK = f"{B}/work/figures"
STORE, SOCKET = f"{WORK}/store", f"{WORK}/nacre.sock"
REGISTRY = "127.0.0.1:5000"
IMAGES = ("debian-min", "python-app", "node-app", "many-layers")
ENV = os.environ | {"NACRE_ROOT": STORE, "NACRE_HOST": f"unix://{SOCKET}"}
LIMITS = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024"
PODMAN = (f"podman --root {WORK}/podman --runroot {WORK}/podman-run --storage-driver overlay --cgroup-manager cgroupfs "
          "--events-backend none --log-level error")


def sh(command, check=True):
    done = subprocess.run(["bash", "-c", command], env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    if check and done.returncode:
        sys.exit(f"bench: {command}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def nacre(arguments, check=True):
    return sh(f"{NACRE} {arguments}", check)


def service_pid():
    return int(open(f"{STORE}/lock").read() or 0)


def stop_service():
    nacre("service --stop", check=False)
    for _ in range(500):
        if not os.path.exists(f"{STORE}/lock") or not open(f"{STORE}/lock").read().strip():
            return
        time.sleep(0.02)
    sys.exit("bench: the service does not stop")


def kill_service():
    pid = service_pid()
    os.kill(pid, signal.SIGKILL)
    while os.path.exists(f"/proc/{pid}"):
        time.sleep(0.001)


def start_service():
    """Starts a service in the foreground; returns it once a request has been answered, and the seconds that took."""
    begin = time.perf_counter()
    service = subprocess.Popen([NACRE, "service"], env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    while True:
        try:
            connection = http.client.HTTPConnection("nacre")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(SOCKET)
            connection.request("GET", "/_ping")
            if connection.getresponse().status == 200:
                return service, time.perf_counter() - begin
        except OSError:
            if service.poll() is not None:
                sys.exit("bench: the service ended")
            time.sleep(0.0005)


def fresh_nacre():
    stop_service()
    shutil.rmtree(STORE, ignore_errors=True)
    nacre("image ls")
    sh("sync")


def fresh_podman():
    sh(f"{PODMAN} rmi -af", check=False)
    sh("sync")


def podman_pull(image):
    return f"{PODMAN} pull -q --tls-verify=false {REGISTRY}/{image}"


def both_have(image):
    nacre(f"pull -q {REGISTRY}/{image}")
    sh(podman_pull(image))


def drop_caches():
    sh("sync; echo 3 > /proc/sys/vm/drop_caches")


def nothing():
    pass


def layer_files(image):
    """The compressed layers of a bench image."""
    blobs = f"{B}/images/{image}/blobs/sha256"
    index = json.load(open(f"{B}/images/{image}/index.json"))
    manifest = json.load(open(f"{blobs}/{index['manifests'][0]['digest'].split(':')[1]}"))
    return [f"{blobs}/{layer['digest'].split(':')[1]}" for layer in manifest["layers"]]


def disk_bytes(path, leave_out="nothing"):
    return int(sh(f"du -s --block-size=1 --exclude={leave_out} {path}").split()[0])


def clean_up():
    for place in ("view", "rw", "overlay", "point"):
        sh(f"umount -l {WORK}/{place}", check=False)
    nacre("rm -f bench", check=False)
    sh(f"{PODMAN} rm -f -t 0 bench", check=False)
    stop_service()
    sh(f"{PODMAN} system reset -f", check=False)
