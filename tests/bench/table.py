"""The table of all rows that are kept, as a page of its own."""
import os, platform, subprocess

import kept
from machine import B, ROUNDS

PAGE = (f"{os.path.dirname(os.path.abspath(__file__))}/FIGURES.md" if ROUNDS >= kept.ROUNDS_THAT_COUNT
        else f"{B}/FIGURES-{ROUNDS}.md")
HEAD = ("| workload | nacre | peers in the same run | nacre's multiple | goal | met | rounds | measured |\n"
        "|---|---:|---|---|---|---|---:|---|")


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


def line(row, kept_row):
    medians = row.medians(kept_row["samples"])
    ours, *_ = medians.values()
    peers = list(medians.items())[1:]
    cells = [
        row.title, shown(ours, row.unit),
        " · ".join(f"{name} {shown(value, row.unit)}" for name, value in peers) or "–",
        " · ".join(f"{ours / value:.2f}" if value else "–" for _, value in peers) or "–",
        ", ".join(goal_shown(goal, row) for goal in row.goals) or "–",
        ("yes" if row.is_met(medians) else "**no**") if row.goals else "–",
        str(kept.rounds_of(kept_row)), f"{kept_row['program']['commit']}, {kept_row['ended']}",
    ]
    return f"| {' | '.join(cells)} |"


def write(rows):
    """The page, of every row that has a round. Rows of an older program say so by their commit."""
    figures = kept.load()
    lines = [line(row, figures[row.name]) for row in rows if row.name in figures and kept.rounds_of(figures[row.name])]
    missing = [row.name for row in rows if row.name not in figures]
    text = "\n".join([introduction(), HEAD, *lines]) + "\n"
    if missing:
        text += f"\nNot measured: {', '.join(missing)}.\n"
    with open(f"{PAGE}.part", "w") as page:
        page.write(text)
    os.replace(f"{PAGE}.part", PAGE)


def introduction():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    podman = subprocess.run(["podman", "--version"], capture_output=True, text=True).stdout.strip()
    return f"""# Figures

Written by `make bench` (`tests/bench/run.sh NACRE {ROUNDS} [ROW …]`), one row after the other; each says which commit it is of.
{os.cpu_count()} × {cpu}, {memory:.0f} GiB, Linux {platform.release()}, {podman}. Medians; the contenders take turns within each
round. Absolute times move with the machine; the multiples of the peers of the same run hold. Cold: the server started anew,
mounted anew, nothing in the page cache. Rows that create many files have a filesystem (ext4 on a loop file) that was made a moment before.
"""
