"""Rows about two clients at once on two cores: each does one half of what one client does alone. No slower than one."""
import os
from functools import partial

import fresh
from changes import FreshExt4, make_project, ready
from contenders import Ext4, Nacre, need
from machine import ASSETS, B, WORK, sh, timed
from rows import Contender, Row, at_most
from trees import close

HALVES = (0, 1)


def halves():
    """The directories of node-app's packages, dealt out to two clients by size. Returns the names of two lists."""
    lists = [f"{WORK}/half{half}" for half in HALVES]
    root, sizes = f"{B}/flat/node-app", []
    for at, below, _ in os.walk(f"{root}/app/node_modules"):
        if os.path.relpath(at, root).count("/") == 3:   # app/node_modules/PACKAGE/PART: small enough to be dealt out evenly
            sizes.append((sum(len(names) for _, _, names in os.walk(at)), os.path.relpath(at, root)))
            below.clear()
    dealt, counts = ([], []), [0, 0]
    for count, name in sorted(sizes, reverse=True):
        half = counts.index(min(counts))
        dealt[half].append(name)
        counts[half] += count
    for path, names in zip(lists, dealt):
        with open(path, "w") as file:
            file.write("".join(f"{name}\0" for name in names))
    return lists


def tar_halves():
    """The files of tree.tar as two archives of 10,000."""
    archives = [f"{ASSETS}/half{half}.tar" for half in HALVES]
    if not all(map(os.path.exists, archives)):
        names = sh(f"tar tf {ASSETS}/tree.tar | grep -v /$").splitlines()
        for half, archive in zip(HALVES, archives):
            with open(f"{archive}.names", "w") as file:
                file.write("\n".join(names[half::2]))
            sh(f"cd {ASSETS} && tar cf {archive}.part -T {archive}.names && mv {archive}.part {archive}")
    return archives


def turns(commands, measure):
    """`measure(filesystem, command)`. Ours at once comes first, then what it is held to."""
    alone, together = " && ".join(commands), f"{commands[0]} & first=$!; {commands[1]} && wait $first"
    return [Contender("nacre", partial(measure, "nacre", together)), Contender("one client", partial(measure, "nacre", alone)),
            Contender("ext4, two clients", partial(measure, "ext4", together)),
            Contender("ext4, one client", partial(measure, "ext4", alone))]


def over_tree(command):
    """Over node-app, writable, warm. `command` has {} where the list of one client's directories stands."""
    need("node-app")
    commands = [command.format(names) for names in halves()]
    filesystems = {kind.name: kind("node-app", f"{WORK}/own") for kind in (Nacre, Ext4)}
    try:
        for filesystem in filesystems.values():
            filesystem.open()
            filesystem.do(" && ".join(commands))
        yield turns(commands, lambda name, command: timed(filesystems[name].at(command)))
    finally:
        close(filesystems.values())


def untar():
    make_project()
    commands = [f"mkdir -p w/{half} && tar xf {archive} -C w/{half}" for half, archive in zip(HALVES, tar_halves())]
    before = f"cat {ASSETS}/half*.tar > /dev/null"
    kinds = {"nacre": Nacre, "ext4": FreshExt4}
    yield turns(commands, lambda name, command: timed(ready(kinds[name], "project", before, cold=False).at(command)))
    fresh.leave()


SLOWER = (at_most(1.0, "one client"),)

ROWS = [
    Row("two-walks", "two clients walk one half of node-app each, writable, warm",
        partial(over_tree, "find -files0-from {} -printf '%p %s %m %T@ %i\\n' > /dev/null"), SLOWER),
    Row("two-reads", "two clients read one half of node-app each, writable, warm",
        partial(over_tree, "{{ tar c --null -T {} | cat > /dev/null; }}"), SLOWER),
    Row("two-untars", "two clients untar 10,000 files each", untar, SLOWER),
]
