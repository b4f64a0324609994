#!/usr/bin/env python3
"""figures.py NACRE ROUNDS [ROW …]: times nacre and its peers in turn, keeps each round in $B/figures.json, and writes the table of
all rows to FIGURES.md after each row (with fewer than five rounds: $B/figures-N.json and $B/FIGURES-N.md).

Without rows: all that are missing or were cut short, or are of another program. With rows: these, anew if they were whole;
`list` lists them. $B holds the images; a registry on 127.0.0.1:5000 serves them. As root, in a mount namespace of its own (run.sh)."""
import signal, sys, time, traceback

sys.dont_write_bytecode = True
import changes, clients, contenders, fresh, images, kept, large, machine, runs, table, trees

ROWS = [*images.ROWS, *runs.ROWS, *trees.ROWS, *large.ROWS, *changes.ROWS, *clients.ROWS]


def chosen(names):
    by_name = {row.name: row for row in ROWS}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        sys.exit(f"bench: no row {unknown[0]}: there are {', '.join(by_name)}")
    return [by_name[name] for name in names] or ROWS


def measure(row, of):
    """One row. True if it is whole afterwards."""
    entry = kept.begin(kept.load().get(row.name), row.rounds, of)
    start = time.monotonic()
    print(f"bench: {row.name}: {row.title}", flush=True)
    try:
        row.measure(kept.rounds_of(entry), lambda figures: kept.add(row.name, entry, figures))
    except Exception:
        traceback.print_exc()
        print(f"bench: {row.name}: not measured", flush=True)
        return False
    finally:
        fresh.leave()
        table.write(ROWS)
    print(f"{table.line(row, entry)}\nbench: {row.name}: {time.monotonic() - start:.0f} s", flush=True)
    return True


def main():
    names = sys.argv[3:]
    if names == ["list"]:
        print("\n".join(f"{row.name:24} {row.title}" for row in ROWS))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: cut short"))   # so that mounts and services are taken away
    rows, of = chosen(names), kept.program()
    contenders.make_ready(of)
    figures = kept.load()
    if not names:
        rows = [row for row in rows if not kept.is_whole(figures.get(row.name), row.rounds, of)]
    try:
        failed = [row.name for row in rows if not measure(row, of)]
    finally:
        fresh.leave()
        contenders.clean_up()
    print(f"bench: the table is in {table.PAGE}")
    if failed:
        sys.exit(f"bench: not measured: {', '.join(failed)}")


main()
