"""The table: workloads whose contenders take turns, medians, and whether the goal is reached."""
import os, platform, statistics, subprocess, sys, time

from machine import ROUNDS, sh

MS, MB = "ms", "MB"
lines = []


def timed(command):
    start = time.perf_counter()
    sh(command)
    return time.perf_counter() - start


def shown(value, unit):
    if unit == MB:
        return f"{value / 1e6:.0f} MB"
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms"


def row(title, contenders, goals, rounds=ROUNDS, unit=MS):
    """One workload. Contenders are (name, before, command or function that returns the figure), ours first; they run in
    turn within each round, so that a slow minute of the machine hits all of them. Goals are (peer, factor), or
    (None, limit in seconds or bytes)."""
    samples = {name: [] for name, _, _ in contenders}
    for _ in range(rounds):
        for name, before, command in contenders:
            before()
            samples[name].append(timed(command) if isinstance(command, str) else command())
    medians = {name: statistics.median(figures) for name, figures in samples.items()}
    (_, ours), *peers = medians.items()
    words, reached = [], True
    for peer, bound in goals:
        words.append(f"≤ {bound} × {peer}" if peer else f"≤ {shown(bound, unit)}")
        reached &= ours <= bound * (medians[peer] if peer else 1)
    peers = " · ".join(f"{name} {shown(value, unit)} ({ours / value:.2f} ×)" for name, value in peers)
    say(f"| {title} | {shown(ours, unit)} | {peers} | {', '.join(words)} | {'yes' if reached else '**no**'} |")


def say(line):
    print(line, flush=True)
    lines.append(line)


def head():
    say("| workload | nacre | peers in the same run (nacre's multiple) | goal | reached |\n|---|---:|---|---|---|")


def write(path):
    """The table as a page of its own."""
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = sh("git rev-parse --short HEAD", check=False)
    podman = subprocess.run(["podman", "--version"], capture_output=True, text=True).stdout.strip()
    with open(path, "w") as page:
        page.write(f"""# Figures

Written by `make bench` (`tests/bench/figures.py {' '.join(sys.argv[2:])}`), {time.strftime('%Y-%m-%d %H:%M %Z')}, commit {commit}.
{os.cpu_count()} × {cpu}, {memory:.0f} GiB, Linux {platform.release()}, {podman}. Medians of {ROUNDS} interleaved rounds (the
rows of milliseconds: of {4 * ROUNDS}). Absolute times move with the machine; the ratios to the peers of the same run hold.

""")
        page.write("\n".join(lines) + "\n")
