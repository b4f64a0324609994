"""Rows about milliseconds: mounting, running, and the service's own start."""
import os, shutil
from functools import partial

from contenders import LIMITS, MAIN, MAIN_PODMAN, Store, both_have, podman
from machine import REGISTRY, ROUNDS, WORK, Failed, made, settle, sh, unmount
from rows import Contender, Row, at_most

IMAGES_IN_STORE = 500
FILES_IN_LAYER = 100_000


def mount():
    place = made(f"{WORK}/mnt/point")
    for image in ("debian-min", "many-layers"):
        both_have(image)

    def first_ls(image):
        return f"{MAIN.command(f'mount --read-only {REGISTRY}/{image} {place}')} && ls {place} > /dev/null"

    def away():
        if os.path.ismount(place):
            MAIN.run(f"umount {place}")

    yield [Contender("31 layers", first_ls("many-layers"), away), Contender("1 layer", first_ls("debian-min"), away)]
    away()


def run():
    both_have("debian-min")
    crun = f"{podman(MAIN_PODMAN)} --runtime crun"
    yield [
        Contender("nacre", MAIN.command(f"run --rm --network none {REGISTRY}/debian-min true")),
        Contender("podman + crun", f"{crun} run --rm --network=none {LIMITS} {REGISTRY}/debian-min true"),
    ]


def execute():
    both_have("debian-min")
    crun = f"{podman(MAIN_PODMAN)} --runtime crun"
    MAIN.run(f"run -d --name bench --network none {REGISTRY}/debian-min sleep 10000")
    try:
        sh(f"{crun} run -d --name bench --network=none {LIMITS} {REGISTRY}/debian-min sleep 10000")
        yield [Contender("nacre", MAIN.command("exec bench true")), Contender("podman + crun", f"{crun} exec bench true")]
    finally:
        MAIN.run("rm -f bench", check=False)
        sh(f"{crun} rm -f -t 0 bench", check=False)


class Template:
    """A store as it was left, kept, and `live`: a copy of it that a service may change, made anew for each round.

    The data files of writable layers are not copied but go along: a start that finds a record for each leaves them alone, and
    copying 100,000 of them would take longer than all that is measured."""

    def __init__(self, kind, name):
        self.home, self.live = f"{WORK}/starts/{kind}-{name}", Store(f"{WORK}/starts/{kind}")

    def exists(self):
        return os.path.exists(f"{self.home}/format")

    def keep(self):
        """What `live` is now."""
        sh(f"rm -rf {self.home} {self.home}.part && mkdir {self.home}.part && cd {self.live.root} && "
           f"find . -mindepth 1 -maxdepth 1 ! -name uppers -exec cp -a {{}} {self.home}.part/ \\; && mv {self.home}.part {self.home}")

    def again(self):
        sh(f"find {self.live.root} -mindepth 1 -maxdepth 1 ! -name uppers -exec rm -rf {{}} + && cp -a {self.home}/. {self.live.root}/")
        settle()

    def started(self, check):
        service, seconds = self.live.start()
        try:
            check()
        finally:
            self.live.kill()   # nothing more is asked of it; a clean end would only take time
            service.wait()
        return seconds


def begun(template):
    """`live`, empty but for debian-min, with a writable mount."""
    shutil.rmtree(template.live.root, ignore_errors=True)
    place = made(f"{WORK}/mnt/many")
    unmount(place)
    made(template.live.root)
    template.live.pull("debian-min")
    template.live.run(f"mount --name many {REGISTRY}/debian-min {place}")
    return place


def make_images(killed, clean):
    """500 images, each with a layer of its own, as kill -9 leaves them, and after a clean end."""
    store, place = killed.live, begun(killed)
    for number in range(1, IMAGES_IN_STORE):
        with open(f"{place}/number", "w") as file:
            file.write(f"{number}\n" * 100)
        store.run(f"commit many many:{number}")
    store.run(f"umount {place}")
    store.kill()
    killed.keep()
    store.run("image ls")
    store.stop()
    clean.keep()


def with_images(how):
    templates = {name: Template("images", name) for name in ("killed", "clean")}
    if not all(template.exists() for template in templates.values()):
        make_images(templates["killed"], templates["clean"])
    template = templates[how]

    def has_all():
        found = template.live.run("image ls -q | wc -l")
        if found != str(IMAGES_IN_STORE):
            raise Failed(f"{found} images after the start")

    yield [Contender("nacre", lambda: template.started(has_all), template.again)]


def with_files():
    """A large writable layer: every file of it has a data file that may be a leftover."""
    template = Template("files", "killed")
    if not template.exists():
        place = begun(template)
        for number in range(FILES_IN_LAYER):
            directory = f"{place}/{number // 1000}"
            if number % 1000 == 0:
                os.mkdir(directory)
            with open(f"{directory}/{number}", "w") as file:
                file.write("content")
        template.live.kill()
        unmount(place)
        template.keep()
    yield [Contender("nacre", lambda: template.started(lambda: None), template.again)]


ROWS = [
    Row("mount", "mount to first `ls`, 31 layers", mount, (at_most(0.02), at_most(1.2, "1 layer")), rounds=4 * ROUNDS),
    Row("run", "`run --rm debian-min true`", run, (at_most(0.06),), rounds=4 * ROUNDS),
    Row("exec", "`exec … true`", execute, (at_most(0.04),), rounds=4 * ROUNDS),
    Row("start-clean", f"start of the service, {IMAGES_IN_STORE} images, clean", partial(with_images, "clean"), (at_most(0.1),)),
    Row("start-killed", f"start of the service, {IMAGES_IN_STORE} images, after kill -9", partial(with_images, "killed"), (at_most(0.5),)),
    Row("start-killed-files", f"start of the service, {FILES_IN_LAYER:,} files in a writable layer, after kill -9", with_files),
]
