"""The machine: shell commands, caches, the settings of a run. Knows no contender."""
import os, subprocess, sys, time

B = os.path.abspath(os.environ.get("B", "target/bench"))
PROGRAM = os.path.realpath(sys.argv[1]) if len(sys.argv) > 1 else ""
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
WORK = f"{B}/work/figures"
NACRE = f"{WORK}/nacre"   # a copy of PROGRAM: a build meanwhile would change what is measured
ASSETS = f"{B}/assets"
REGISTRY = "127.0.0.1:5000"
IMAGES = ("debian-min", "python-app", "node-app", "many-layers")
COMMAND_SECONDS_MAX = 1800   # a contender that hangs ends its row, not the run


class Failed(Exception):
    """A row cannot be measured; the others can."""


def sh(command, check=True):
    try:
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=COMMAND_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        raise Failed(f"{command}\nno end after {COMMAND_SECONDS_MAX} s") from None
    if check and done.returncode:
        raise Failed(f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout.strip()


def timed(command):
    start = time.perf_counter()
    sh(command)
    return time.perf_counter() - start


def nothing():
    pass


def settle():
    """Everybody's writes are on disk: nobody pays for the contender before."""
    os.sync()


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3\n")


def made(directory):
    os.makedirs(directory, exist_ok=True)
    return directory


def status_bytes(pid, field):
    """A figure of /proc/PID/status: VmRSS, VmHWM."""
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise Failed(f"/proc/{pid}/status has no {field}")


def disk_bytes(path):
    return int(sh(f"du -s --block-size=1 {path}").split()[0])


def unmount(place):
    """Takes away all that is mounted at or below a place. Lazily: who still holds it may let go later."""
    while os.path.ismount(place):
        sh(f"umount -R {place} || umount -R -l {place}")
