"""Rows about many files that are made, changed and removed. Every contender writes to a filesystem that was made a moment
before (fresh.py says why); ext4's own tree for copy-ups is a filesystem of its own, on a loop file as well."""
import os
from functools import partial

import fresh
from contenders import FILESYSTEMS, Ext4, Nacre, fresh_store, need
from machine import ASSETS, B, drop_caches, settle, sh, timed
from rows import Contender, Row, at_most

UNTAR = f"mkdir -p w/t && tar xf {ASSETS}/tree.tar -C w/t"
REMOVE = "rm -rf w/t"
TOUCH = f"xargs touch < {ASSETS}/touch.list"
APPEND = f"perl -ne 'chomp; open(F,q(>>),$_) or die $_; print F qq(\\n); close F' {ASSETS}/append.list"


class FreshExt4(Ext4):
    """A copy of the tree on the fresh filesystem."""

    def mount(self):
        sh(f"cp -a {B}/flat/{self.tree} {fresh.PLACE}/ext4 && mount --bind {fresh.PLACE}/ext4 {self.place}")


class TreeExt4(Ext4):
    """The whole tree, on a loop file as everybody's uppers are, and never made anew: a touch leaves nothing behind, an append a byte."""

    def mount(self):
        fresh.attach(fresh.tree(self.tree, f"{B}/flat/{self.tree}"), self.place)


def on_fresh(kind, tree):
    """A filesystem whose upper (nacre: whose whole store) is on a fresh one, mounted."""
    if kind is Nacre:
        store = fresh_store()
        need(tree, store)
        filesystem = Nacre(tree, "", store=store)
    else:
        fresh.make()
        filesystem = kind(tree, fresh.PLACE)
    fresh.before_leaving(filesystem.close)
    filesystem.open()
    return filesystem


def make_project():
    """The C project alone, as a tree and as a lower layer: what many files are made on top of need not be large."""
    for home in ("flat/project", "layers/project/0"):
        if not os.path.isdir(f"{B}/{home}"):
            sh(f"mkdir -p {B}/{home}.part && cp -a {B}/layers/work/1/proj {B}/{home}.part/ && mv {B}/{home}.part {B}/{home}")


def ready(kind, tree, before, cold):
    """`before` is done in a fresh mount. Then all is on disk; if cold, nothing of it in memory."""
    filesystem = on_fresh(kind, tree)
    filesystem.do(before)
    if cold:
        filesystem.remount()
        drop_caches()
    else:
        settle()
    return filesystem


def workload(tree, command, before="true", ext4=FreshExt4, cold=False):
    make_project()
    kinds = [ext4 if kind is Ext4 else kind for kind in FILESYSTEMS]

    def measure(kind):
        return timed(ready(kind, tree, before, cold).at(command))

    yield [Contender(kind.name, partial(measure, kind)) for kind in kinds]
    fresh.leave()


def on_project(command, before="true"):
    return partial(workload, "project", command, f"cat {ASSETS}/tree.tar > /dev/null; {before}")


def copy_up(command):
    return partial(workload, "node-app", command, ext4=TreeExt4, cold=True)


ROWS = [
    Row("untar", "untar of 20,000 files", on_project(UNTAR), (at_most(2.5, "ext4"),)),
    Row("remove", "removal of 20,000 files", on_project(REMOVE, before=UNTAR), (at_most(2, "ext4"),)),
    Row("make", "make -j2 of 200 C files", on_project("make -C proj -j2 -s"), (at_most(1.05, "ext4"),)),
    Row("touch", "touch of 5,000 lower files, cold", copy_up(TOUCH), (at_most(1.5, "ext4"),)),
    Row("append", "append to 5,000 lower files, cold", copy_up(APPEND), (at_most(2, "ext4"),)),
]
