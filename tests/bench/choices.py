#!/usr/bin/env python3
"""choices.py [ROUNDS [ROW …]]: the libraries and constants that the store chose, each beside the others that it could have
chosen, on the layers of the benchmark's images in $B. Run by hand after `tests/bench/run.sh` made the images; the table of
store/README.md comes from it.

It compiles each alternative first, in $B/work/choices: another back end of flate2, or the store with another constant.
zlib-ng needs cmake in the PATH. Every row is a median of interleaved rounds."""
import json, os, re, shutil, statistics, subprocess, sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
REPO = os.path.abspath(f"{HERE}/../..")
B = os.path.abspath(os.environ.get("B", f"{REPO}/target/bench"))
WORK = f"{B}/work/choices"
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
IMAGES = ("python-app", "node-app")
BACK_ENDS = {"zlib-rs": "zlib-rs", "zlib-ng": "zlib-ng", "zlib": "zlib", "miniz_oxide": "rust_backend"}


def sh(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"choices: {' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout + done.stderr


def layers(image):
    blobs = f"{B}/images/{image}/blobs/sha256"
    of = lambda digest: json.load(open(f"{blobs}/{digest.split(':')[1]}"))
    index = json.load(open(f"{B}/images/{image}/index.json"))
    return [f"{blobs}/{layer['digest'].split(':')[1]}" for layer in of(index["manifests"][0]["digest"])["layers"]]


def in_turn(contenders):
    """{name: function that returns figures}: the figures' medians."""
    all_of = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, measure in contenders.items():
            all_of[name].append(measure())
    return {name: [statistics.median(figures) for figures in zip(*rounds)] for name, rounds in all_of.items()}


def table(title, columns, medians):
    print(f"\n| {title} | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}", flush=True)
    for name, figures in medians.items():
        print(f"| {name} | {' | '.join(f'{figure:.2f}' for figure in figures)} |", flush=True)


def small_crate(name, dependencies, feature=None, flags=""):
    at = f"{WORK}/{name}"
    os.makedirs(at, exist_ok=True)
    with open(f"{at}/Cargo.toml", "w") as file:
        file.write(f"""[package]
name = "choices"
version = "0.0.0"
edition = "2024"
[[bin]]
name = "choices"
path = "{HERE}/choices.rs"
[dependencies]
{dependencies}
[features]
hash = []
[workspace]
""")
    sh("cargo", "build", "--release", "-q", *(["--features", feature] if feature else []), cwd=at,
       env=os.environ | {"CARGO_TARGET_DIR": f"{at}/target", "RUSTFLAGS": flags})
    return f"{at}/target/release/choices"


def measured(program, what, files):
    return [float(sh(program, what, *files).split()[0])]


def inflate():
    flate2 = 'flate2 = {{ version = "1.1", default-features = false, features = ["{}"] }}'
    programs = {name: small_crate(name, flate2.format(feature)) for name, feature in BACK_ENDS.items()}
    medians = {}
    for image in IMAGES:
        files = layers(image)

        def gzip():
            before = os.times()
            sh("sh", "-c", f"gzip -dc {' '.join(files)} > /dev/null")
            after = os.times()
            return [after.children_user + after.children_system - before.children_user - before.children_system]

        contenders = {name: (lambda program=program: measured(program, "inflate", files)) for name, program in programs.items()}
        for name, figures in in_turn(contenders | {"gzip -dc": gzip}).items():
            medians.setdefault(name, []).extend(figures)
    table("inflate all layers, processor seconds", IMAGES, medians)


def hash():
    both = 'ring = "0.17"\nsha2 = "0.11"'
    program = small_crate("hash", both, "hash")
    plain = small_crate("hash-soft", both, "hash", '--cfg sha2_backend="soft"')
    medians = {}
    for image in IMAGES:
        files = layers(image)
        contenders = {
            "sha2 (finds SHA-NI by itself)": lambda: measured(program, "sha2", files),
            "ring": lambda: measured(program, "ring", files),
            "sha2 without SHA-NI": lambda: measured(plain, "sha2", files),
        }
        for name, figures in in_turn(contenders).items():
            medians.setdefault(name, []).extend(figures)
    table("SHA-256 of the compressed layers, processor seconds", IMAGES, medians)


def store_with(name, changes):
    """The store's tests, compiled with other constants: (file, pattern, replacement)."""
    copy = f"{WORK}/repo"
    os.makedirs(copy, exist_ok=True)
    for part in ("Cargo.toml", "Cargo.lock", "src", "cli", "fs", "store", "tests"):
        sh("rsync", "-a", "--delete", f"{REPO}/{part}", copy)
    for file, pattern, replacement in changes:
        text = open(f"{copy}/{file}").read()
        text, count = re.subn(pattern, replacement, text)
        assert count == 1, (file, pattern, count)
        open(f"{copy}/{file}", "w").write(text)
    # The whole workspace: for the store alone cargo would choose other features, and RocksDB would be compiled again.
    if not os.path.exists(f"{WORK}/target") and os.path.exists(f"{REPO}/target/release"):
        os.makedirs(f"{WORK}/target")
        sh("cp", "-a", f"{REPO}/target/release", f"{WORK}/target")
    said = sh("cargo", "test", "--release", "--workspace", "--locked", "--lib", "--no-run", cwd=copy,
              env=os.environ | {"CARGO_TARGET_DIR": f"{WORK}/target"})
    made = re.search(r"\((\S*deps/nacre_store-\w+)\)", said).group(1)
    program = f"{WORK}/store-{name.replace(' ', '-')}"
    shutil.copy(made if made.startswith("/") else f"{copy}/{made}", program)
    return program


def imported(program, image, **variables):
    """What `store/src/tests/speed.rs` says: seconds and megabytes by name."""
    said = sh(program, "speed_of_an_import", "--ignored", "--nocapture",
              env=os.environ | {"NACRE_LAYOUT": f"{B}/images/{image}", "TMPDIR": f"{B}/work"} | variables)
    figures = {}
    for line in said.splitlines():
        words = line.split()
        if len(words) > 1 and (found := re.fullmatch(r"([\d.]+)(ms|s|µs)?", words[1])):
            unit = {"ms": 1e-3, "µs": 1e-6}.get(found.group(2), 1)
            figures.setdefault(words[0], float(found.group(1)) * unit)
    return figures


def of_store(title, variants):
    """Each variant: (program, variables)."""
    for image in IMAGES:
        def measure(program, variables):
            figures = imported(program, image, **variables)
            return [figures["unpack"], figures["publish"], figures["list"], figures["du"]]

        contenders = {name: (lambda pair=pair: measure(*pair)) for name, pair in variants.items()}
        table(f"{title}, {image}", ("unpack s", "publish s", "read all s", "MB on disk"), in_turn(contenders))


def parallel():
    program = store_with("as it is", [])
    of_store("layers unpacked at once", {str(n): (program, {"NACRE_AT_ONCE": str(n)}) for n in (1, 2, 3, 4)})


def threshold():
    size = (r"SMALL_BYTES_MAX: usize = \d+ << 10", "SMALL_BYTES_MAX: usize = {} << 10")
    variants = {f"{kib} KiB": (store_with(f"{kib}k", [("store/src/blobs.rs", size[0], size[1].format(kib))]), {})
                for kib in (16, 64, 256)}
    of_store("largest content in the database", variants)


def compression():
    kind = r"set_blob_compression_type\(DBCompressionType::\w+\)"
    variants = {name: (store_with(name, [("store/src/db.rs", kind, f"set_blob_compression_type(DBCompressionType::{name})")]), {})
                for name in ("None", "Lz4", "Zstd")}
    of_store("compression of small contents", variants)


ROWS = {"inflate": inflate, "hash": hash, "parallel": parallel, "threshold": threshold, "compression": compression}


def main():
    os.makedirs(WORK, exist_ok=True)
    for name in sys.argv[2:] or ROWS:
        ROWS[name]()


main()
