"""What was measured, row by row, in $B/figures.json: a run that was cut short goes on where it was.

A row holds its samples, round by round, and what program they are of. Samples of two programs are never mixed. Tries with
fewer rounds than count are kept in a file of their own, so that they never become part of a figure."""
import hashlib, json, os, shutil, time

from machine import B, NACRE, PROGRAM, ROUNDS, WORK, made, sh

ROUNDS_THAT_COUNT = 5
PROGRAMS = ("nacre", "nacred", "nacre-shim")
FILE = f"{B}/figures.json" if ROUNDS >= ROUNDS_THAT_COUNT else f"{B}/figures-{ROUNDS}.json"


def program():
    """What is measured: its version, its commit ($NACRE_COMMIT, or that of the checkout that it lies in), and the digest of its
    programs, which decides."""
    made(WORK)
    digest = hashlib.sha256()
    for name in PROGRAMS:
        copy = f"{WORK}/{name}"
        shutil.copy(f"{os.path.dirname(PROGRAM)}/{name}", f"{copy}.part")
        os.replace(f"{copy}.part", copy)
        with open(copy, "rb") as file:
            digest.update(file.read())
    digest = digest.hexdigest()
    commit = os.environ.get("NACRE_COMMIT") or sh(f"git -C {os.path.dirname(PROGRAM)} rev-parse --short HEAD", check=False)
    return {"version": sh(f"{NACRE} --version"), "commit": commit or "?", "sha256": digest[:16]}


def load():
    try:
        with open(FILE) as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def save(rows):
    with open(f"{FILE}.part", "w") as file:
        json.dump(rows, file, indent=1)
    os.replace(f"{FILE}.part", FILE)


def rounds_of(kept):
    """How many rounds are whole: a round that was cut short counts for none."""
    return min(map(len, kept["samples"].values()), default=0)


def is_whole(kept, rounds, of):
    return bool(kept) and kept["program"]["sha256"] == of["sha256"] and rounds_of(kept) >= rounds


def begin(kept, rounds, of):
    """The row to go on with: the one that was cut short, or a new one."""
    goes_on = kept and kept["program"]["sha256"] == of["sha256"] and rounds_of(kept) < rounds
    if goes_on:
        return kept
    return {"program": of, "begun": now(), "load": os.getloadavg()[0], "samples": {}}


def add(name, row, figures):
    """Keeps one whole round."""
    for contender, figure in figures.items():
        row["samples"].setdefault(contender, []).append(figure)
    row["ended"] = now()
    rows = load()
    rows[name] = row
    save(rows)


def now():
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime())
