//! Small inputs that ask for much: each ends within the named limits, in an error that says which, with the service's memory
//! and time bounded.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::nacre::{Nacre, run_tool};

/// What the service may take at most: as much as while it pulls (issue 3).
const MEMORY_BYTES_MAX: u64 = 300 << 20;

/// What any of these may last, on a machine that does something else beside.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Limits that are met in less time than the default ones; their names are what the refusals name.
const SETTINGS: &str =
    "[limits]\ninflate-grace-bytes = 67108864\nentries = 50000\nunplaced-bytes = 1048576\n";

struct Target {
    nacre: Nacre,
    pid: i32,
}

impl Target {
    fn new() -> Self {
        let mut nacre = Nacre::new();
        nacre.configure(SETTINGS);
        nacre.ok(&["image", "ls"]);
        let pid = nacre.service_pid().unwrap();
        Self { nacre, pid }
    }

    /// The most memory that the service had since it began.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
        let kilobytes = line.split_whitespace().nth(1).unwrap();
        kilobytes.parse::<u64>().unwrap() << 10
    }

    /// Does something to the service that may ask for no more than is its due.
    fn bounded<T>(&self, what: &str, act: impl FnOnce(&Nacre) -> T) -> T {
        // Resets the peak.
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5").unwrap();
        let begun = Instant::now();
        let done = act(&self.nacre);
        let (took, peak) = (begun.elapsed(), self.peak());
        eprintln!("bombs: {what}: {took:.1?}, {} MiB", peak >> 20);
        assert!(took < TIME_MAX, "{what} took {took:?}");
        assert!(peak < MEMORY_BYTES_MAX, "{what} took {peak} bytes");
        let alive = self.nacre.service_pid();
        assert_eq!(alive, Some(self.pid), "{what} ended the service");
        done
    }

    fn refused(&self, what: &str, args: &[&str], says: &str) {
        self.bounded(what, |nacre| {
            let done = nacre.run(args);
            let said = format!("{}{}", done.stdout, done.stderr);
            assert_eq!(done.code, 1, "{what}: {said}");
            assert!(said.contains(says), "{what} must say {says:?}: {said}");
            assert!(said.len() < 8192, "{what}: the answer itself is a bomb");
        });
    }

    /// Nothing of any bomb is left.
    fn is_clean(&self) {
        assert_eq!(self.nacre.ok(&["image", "ls", "-aq"]), "");
        self.nacre.check();
    }
}

/// A header of ustar.
fn header(kind: u8, name: &[u8], size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[148..156].fill(b' ');
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn member(kind: u8, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut all = header(kind, name, content.len() as u64);
    all.extend_from_slice(content);
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

/// One record of a PAX header.
fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    let mut record = format!("{len} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

fn with_pax(records: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = member(b'x', b"pax", &records.concat());
    tar.extend(member(b'0', b"f", b""));
    tar.extend(vec![0; 1024]);
    tar
}

/// `head`, then zeros, compressed.
fn gzip_of(head: &[u8], zeros: usize) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(head).unwrap();
    let block = vec![0; 1 << 20];
    for _ in 0..zeros >> 20 {
        out.write_all(&block).unwrap();
    }
    out.finish().unwrap()
}

fn zstd_of(head: &[u8], zeros: usize) -> Vec<u8> {
    let mut out = zstd::Encoder::new(Vec::new(), 3).unwrap();
    out.write_all(head).unwrap();
    let block = vec![0; 1 << 20];
    for _ in 0..zeros >> 20 {
        out.write_all(&block).unwrap();
    }
    out.finish().unwrap()
}

#[test]
fn layers_that_ask_for_much_are_refused_within_bounds() {
    let target = Target::new();
    let file = target.nacre.path("bomb");
    let big = header(b'0', b"zeros", (8 << 30) - 1);
    let names = |count: usize| -> Vec<u8> {
        let tar = (0..count).flat_map(|n| header(b'0', format!("{n}").as_bytes(), 0));
        gzip_of(&tar.collect::<Vec<u8>>(), 1 << 20)
    };
    let deep = "d/".repeat(5000);
    let map = "1,".repeat(600_000);
    let xattr = |n: usize| pax(&format!("SCHILY.xattr.user.{n}"), &[b'x'; 60_000]);
    let nested = gzip_of(&gzip_of(&big, 256 << 20), 0);
    let bombs: [(&str, Vec<u8>, &str); 14] = [
        ("gzip of zeros", gzip_of(&big, 256 << 20), "inflate"),
        ("zstd of zeros", zstd_of(&big, 256 << 20), "inflate"),
        ("gzip in gzip", nested, "no valid tar header"),
        (
            "zeros after the end",
            gzip_of(&[0; 1024], 64 << 20),
            "unplaced",
        ),
        ("many entries", names(60_000), "entries"),
        (
            "a PAX header of 2 MiB",
            with_pax(&[pax("comment", &vec![b'x'; 2 << 20])]),
            "extension",
        ),
        (
            "a deep path",
            with_pax(&[pax("path", deep.as_bytes())]),
            "depth",
        ),
        (
            "a long name",
            with_pax(&[pax("path", &[b'n'; 300])]),
            "name",
        ),
        (
            "a large attribute",
            with_pax(&[pax("SCHILY.xattr.user.a", &vec![b'x'; 70_000])]),
            "xattr",
        ),
        (
            "many attributes",
            with_pax(&(0..20).map(xattr).collect::<Vec<_>>()),
            "extension",
        ),
        (
            "a sparse map without end",
            with_pax(&[pax("GNU.sparse.map", map.as_bytes())]),
            "extension",
        ),
        (
            "a PAX size of 2^63",
            with_pax(&[pax("size", b"9223372036854775807")]),
            "truncated",
        ),
        (
            "a global header",
            [
                member(b'g', b"g", &pax("SCHILY.xattr.user.a", &[b'x'; 8192])),
                with_pax(&[]),
            ]
            .concat(),
            "global",
        ),
        (
            "a name of GNU of 2 MiB",
            member(b'L', b"././@LongLink", &vec![b'n'; 2 << 20]),
            "extension",
        ),
    ];
    for (what, bomb, says) in bombs {
        assert!(bomb.len() < 8 << 20, "{what} is no bomb");
        fs::write(&file, bomb).unwrap();
        target.refused(what, &["import", file.to_str().unwrap(), "bomb:1"], says);
    }
    target.is_clean();
}

#[test]
fn a_sparse_file_of_a_terabyte_costs_what_it_holds() {
    let target = Target::new();
    let file = target.nacre.path("sparse.tar");
    let records = [
        pax("GNU.sparse.major", b"1"),
        pax("GNU.sparse.minor", b"0"),
        pax("GNU.sparse.name", b"sparse"),
        pax("GNU.sparse.realsize", b"1099511627776"),
    ];
    let mut tar = member(b'x', b"pax", &records.concat());
    let mut content = b"1\n1099511627000\n4\n".to_vec();
    content.resize(512, 0);
    content.extend_from_slice(b"end.");
    tar.extend(member(b'0', b"sparse", &content));
    tar.extend(vec![0; 1024]);
    fs::write(&file, tar).unwrap();
    let before = used(&target.nacre.root());
    target.bounded("a sparse terabyte", |nacre| {
        // It may be refused as too large; it may not be written out.
        nacre.run(&["import", file.to_str().unwrap(), "sparse:1"])
    });
    let after = used(&target.nacre.root());
    assert!(after < before + (16 << 20), "{} bytes", after - before);
    target.nacre.check();
}

fn used(root: &Path) -> u64 {
    let used = run_tool("du", &["-s", "--block-size=1", root.to_str().unwrap()]);
    used.split_whitespace().next().unwrap().parse().unwrap()
}

/// An OCI layout below a test's directory.
struct Layout(PathBuf);

impl Layout {
    fn new(nacre: &Nacre, name: &str) -> Self {
        let root = nacre.folder(name);
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(root)
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> serde_json::Value {
        let digest = hex::encode(Sha256::digest(bytes));
        fs::write(self.0.join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    fn json(&self, media_type: &str, value: &serde_json::Value) -> serde_json::Value {
        self.blob(media_type, value.to_string().as_bytes())
    }

    fn index(&self, manifests: &[serde_json::Value]) -> String {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        fs::write(self.0.join("index.json"), index.to_string()).unwrap();
        format!("oci:{}", self.0.display())
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image whose configuration has `extra` beside what must be, and so many layers that are the same.
fn image(layout: &Layout, extra: &serde_json::Value, layers: usize) -> serde_json::Value {
    let tar = [member(b'0', b"f", b"1"), vec![0; 1024]].concat();
    let layer = layout.blob(LAYER, &tar);
    let mut config = json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": vec![layer["digest"].clone(); layers]},
    });
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    let config = layout.json(CONFIG, &config);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": vec![layer; layers],
    });
    layout.json(MANIFEST, &manifest)
}

#[test]
fn documents_that_ask_for_much_are_refused_within_bounds() {
    let target = Target::new();
    let layout = |name: &str| Layout::new(&target.nacre, name);

    let many = layout("many-layers");
    let source = many.index(&[image(&many, &json!({}), 1025)]);
    target.refused("1,025 layers", &["pull", &source], "more than 1024 layers");

    let nested = layout("nested");
    let mut at = image(&nested, &json!({}), 1);
    for _ in 0..8 {
        at = nested.json(
            INDEX,
            &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [at]}),
        );
    }
    target.refused(
        "an index in an index",
        &["pull", &nested.index(&[at])],
        "index",
    );

    let wide = layout("wide");
    let entry = image(&wide, &json!({}), 1);
    let source = wide.index(&vec![entry; 5000]);
    target.refused(
        "5,000 entries",
        &["pull", &source],
        "more than 4096 entries",
    );

    let huge = layout("huge-manifest");
    let mut text = r#"{"schemaVersion":2,"x":""#.to_owned();
    text.push_str(&"x".repeat(5 << 20));
    text.push_str("\"}");
    let source = huge.index(&[huge.blob(MANIFEST, text.as_bytes())]);
    target.refused("a manifest of 5 MiB", &["pull", &source], "manifest");

    let brackets = layout("brackets");
    let source = brackets.index(&[brackets.blob(MANIFEST, "[".repeat(1 << 20).as_bytes())]);
    target.refused("a million brackets", &["pull", &source], "manifest");

    for (what, extra) in [
        (
            "a million variables",
            json!({"config": {"Env": vec!["A=1"; 1_000_000]}}),
        ),
        (
            "a million steps",
            json!({"history": vec![json!({}); 1_500_000]}),
        ),
        (
            "a million labels",
            json!({"config": {"Labels": (0..600_000).map(|n| (n.to_string(), json!(""))).collect::<serde_json::Map<_, _>>()}}),
        ),
    ] {
        let layout = layout("config");
        let source = layout.index(&[image(&layout, &extra, 1)]);
        target.refused(what, &["pull", &source], "more than 4194304 bytes");
    }
    target.is_clean();
}

#[test]
fn the_largest_configuration_that_is_taken_is_shown_within_bounds() {
    let target = Target::new();
    let layout = Layout::new(&target.nacre, "large");
    let extra = json!({
        "config": {"Env": (0..100_000).map(|n| format!("V{n}=1")).collect::<Vec<_>>()},
        "history": vec![json!({"created_by": "x", "empty_layer": true}); 50_000],
    });
    let source = layout.index(&[image(&layout, &extra, 1)]);
    let id = target.bounded("pull", |nacre| nacre.ok(&["pull", "-q", &source]));
    for args in [
        &["image", "inspect", &id][..],
        &["history", &id],
        &["image", "ls"],
        &["commit", "-m", "x", "none"],
    ] {
        target.bounded(args[0], |nacre| nacre.run(args));
    }
    target.bounded("create", |nacre| {
        nacre.run(&["create", "--name", "c", &id, "x"])
    });
    target.nacre.check();
}

/// A registry that answers every request with a head and then for ever with `x`.
fn endless(head: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                if client.read(&mut request).is_err() || client.write_all(head.as_bytes()).is_err()
                {
                    return;
                }
                // A chunk of 4 KiB, or 4 KiB and a few bytes of no meaning.
                let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
                while client.write_all(chunk.as_bytes()).is_ok() {}
            });
        }
    });
    address
}

#[test]
fn a_registry_that_never_stops_talking_is_left() {
    let target = Target::new();
    for (what, head) in [
        (
            "an endless manifest",
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "an endless error",
            "HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("an endless head", "HTTP/1.1 200 OK\r\nX: "),
    ] {
        let address = endless(head);
        target.bounded(what, |nacre| {
            let done = nacre.run(&["pull", &format!("{address}/x")]);
            assert_eq!(done.code, 1, "{what}: {done:?}");
        });
    }
    target.is_clean();
}

/// Sends a request and then a body for ever; returns the answer, and how much was taken before it came.
fn pour(nacre: &Nacre, head: &str, piece: &[u8]) -> (String, u64) {
    let mut socket = UnixStream::connect(nacre.path("nacre.sock")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket.write_all(head.as_bytes()).unwrap();
    let mut sent = 0;
    while sent < 256 << 20 && socket.write_all(piece).is_ok() {
        sent += piece.len() as u64;
    }
    let mut answer = vec![0; 4096];
    let got = socket.read(&mut answer).unwrap_or(0);
    (String::from_utf8_lossy(&answer[..got]).into_owned(), sent)
}

#[test]
fn requests_without_end_are_not_kept() {
    let target = Target::new();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(65536));
    for route in [
        "/containers/create",
        "/containers/x/exec",
        "/nacre/mounts",
        "/auth",
        "/networks/create",
    ] {
        let head = format!(
            "POST {route} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let (answer, sent) = target.bounded(route, |nacre| pour(nacre, &head, chunk.as_bytes()));
        let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        assert!(
            answer.is_empty() || status.starts_with('4') || status.starts_with('5'),
            "{route}: {answer}"
        );
        assert!(sent < 64 << 20, "{route} took {sent} bytes");
    }
    let head = "GET /_ping HTTP/1.1\r\nX: ";
    let (_, sent) = target.bounded("a head without end", |nacre| {
        pour(nacre, head, &[b'x'; 65536])
    });
    assert!(sent < 16 << 20, "it took {sent} bytes");
    target.is_clean();
}
