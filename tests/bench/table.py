"""The table of all rows that are kept, as a page of its own, and the README's table of a few of them: both from the same samples."""
import os, platform, subprocess

import kept
from machine import B, ROUNDS

HERE = os.path.dirname(os.path.abspath(__file__))
COUNTS = ROUNDS >= kept.ROUNDS_THAT_COUNT
PAGE = f"{HERE}/FIGURES.md" if COUNTS else f"{B}/FIGURES-{ROUNDS}.md"
README = f"{HERE}/../../README.md"
BEGIN, END = "<!-- figures: tests/bench/table.py writes what stands here -->\n", "<!-- end of the figures -->\n"
HEAD = ("| workload | nacre | peers in the same run | nacre's multiple | goal | met | rounds | measured |\n"
        "|---|---:|---|---|---|---|---:|---|")
SHORT_HEAD = "| workload | nacre | peers in the same run | goal |\n|---|---:|---|---|"
FOR_NEWCOMERS = (
    "run", "exec", "mount", "pull-python-app", "pull-node-app", "pull-many-layers", "push", "memory-node-app", "disk-with-archives", "disk",
    "walk-ro-cold", "read-rw-warm", "node-warm", "node-cold", "python-warm", "python-cold", "git-warm", "git-cold", "server-memory-rw",
    "lower-seq-read", "seq-write", "byte-dense", "untar", "remove", "make", "touch", "append",
)


def shown(value, unit):
    if unit == "B":
        return f"{value / 1e6:,.0f} MB"
    if unit == "B/s":
        return f"{value / 1e6:,.0f} MB/s"
    if value >= 10:
        return f"{value:.1f} s"
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms" if value >= 0.01 else f"{1000 * value:.1f} ms"


def goal_shown(goal, row):
    sign = "≥" if row.more_is_better else "≤"
    return f"{sign} {goal.bound:g} × {goal.peer}" if goal.peer else f"{sign} {shown(goal.bound, row.unit)}"


def medians_of(row, kept_row):
    """Ours, and those of the peers by name."""
    (_, ours), *peers = row.medians(kept_row["samples"]).items()
    return ours, peers


def multiple(ours, theirs):
    return f"{ours / theirs:.2f}" if theirs else "–"


def line(row, kept_row):
    ours, peers = medians_of(row, kept_row)
    cells = [
        row.title, shown(ours, row.unit),
        " · ".join(f"{name} {shown(value, row.unit)}" for name, value in peers) or "–",
        " · ".join(multiple(ours, value) for _, value in peers) or "–",
        ", ".join(goal_shown(goal, row) for goal in row.goals) or "–",
        ("yes" if row.is_met(row.medians(kept_row["samples"])) else "**no**") if row.goals else "–",
        str(kept.rounds_of(kept_row)), f"{kept_row['program']['commit']}, {kept_row['ended']}",
    ]
    return f"| {' | '.join(cells)} |"


def short_line(row, kept_row):
    ours, peers = medians_of(row, kept_row)
    goals = ", ".join(goal_shown(goal, row) for goal in row.goals)
    cells = [
        row.title, shown(ours, row.unit),
        ", ".join(f"{name} {shown(value, row.unit)} ({multiple(ours, value)} ×)" for name, value in peers),
        goals if row.is_met(row.medians(kept_row["samples"])) else f"**missed:** {goals}",
    ]
    return f"| {' | '.join(cells)} |"


def write(rows):
    """The page, of every row that has a round. Rows of an older program say so by their commit."""
    figures = kept.load()
    measured = {row.name: row for row in rows if row.name in figures and kept.rounds_of(figures[row.name])}
    missing = [row.name for row in rows if row.name not in measured]
    text = "\n".join([introduction(), HEAD, *(line(row, figures[name]) for name, row in measured.items())]) + "\n"
    if missing:
        text += f"\nNot measured: {', '.join(missing)}.\n"
    replace(PAGE, text)
    if COUNTS:
        write_readme([short_line(measured[name], figures[name]) for name in FOR_NEWCOMERS if name in measured])


def write_readme(lines):
    with open(README) as readme:
        before, _, rest = readme.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"bench: {README} has no place for the figures")
    replace(README, before + BEGIN + "\n".join([f"{conditions()}\n", SHORT_HEAD, *lines]) + "\n\n" + end + after)


def replace(page, text):
    with open(f"{page}.part", "w") as file:
        file.write(text)
    os.replace(f"{page}.part", page)


def conditions():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    podman = subprocess.run(["podman", "--version"], capture_output=True, text=True).stdout.strip()
    return f"""{os.cpu_count()} × {cpu}, {memory:.0f} GiB, Linux {platform.release()}, {podman}. Medians; the contenders take turns within each
round. Absolute times move with the machine; the multiples of the peers of the same run hold. Cold: the server started anew,
mounted anew, nothing in the page cache. Rows that create many files have a filesystem (ext4 on a loop file) that was made a moment before."""


def introduction():
    return f"""# Figures

Written by `make bench` (`tests/bench/run.sh NACRE {ROUNDS} [ROW …]`), one row after the other; each says which commit it is of.
{conditions()}
"""
