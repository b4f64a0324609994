#!/usr/bin/env python3
"""figures.py NACRE ROUNDS [ROW …]: times nacre and its peers in turn, prints one table of medians and ratios, and writes it
to FIGURES.md here when all rows were run (else to $B/work/figures.md).

$B holds the images; a registry on 127.0.0.1:5000 serves them. As root, in a mount namespace of its own (see run.sh)."""
import os, shutil, sys

sys.dont_write_bytecode = True
import files, images, machine, runs, table, union

ROWS = {
    "pull": images.pulls, "load": images.loads, "again": images.pulls_again, "push": images.pushes, "memory": images.memory,
    "disk": images.disk, "mount": runs.mounts, "run": runs.runs, "exec": runs.execs, "walk": files.walks, "touch": files.touches,
    "reads": union.reads, "programs": union.programs, "copy-ups": union.copy_ups, "many-files": union.many_files,
    "large-files": union.large_files, "server-memory": union.server_memory,
    # last, because it takes the store away
    "start": runs.service_starts,
}


def main():
    wanted = sys.argv[3:] or list(ROWS)
    unknown = [name for name in wanted if name not in ROWS]
    if unknown:
        sys.exit(f"bench: no row {unknown[0]}: there are {', '.join(ROWS)}")
    machine.stop_service()
    shutil.rmtree(machine.WORK, ignore_errors=True)
    os.makedirs(machine.WORK)
    table.head()
    try:
        for name in wanted:
            ROWS[name]()
    finally:
        machine.clean_up()
    here = os.path.dirname(os.path.abspath(__file__))
    table.write(f"{here}/FIGURES.md" if len(wanted) == len(ROWS) else f"{machine.B}/work/figures.md")


main()
