//! A registry on a bad network: every fault ends in success or in an error that names what failed; the store is whole, and no
//! temporary file stays.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::nacre::{Nacre, oci_source};
use crate::registry::Registry;

/// The settings of an impatient service: what waits for seconds in the world waits for one here.
const SETTINGS: &str = "stall-seconds = 1\nrequest-attempts = 2\nblob-attempts = 2\n";
/// Longer than the service waits, short enough for a test.
const STALL: Duration = Duration::from_millis(2500);
/// How much of a layer comes before something happens to it.
const BEFORE: usize = 100_000;

/// What happens to an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The connection ends within the body.
    Cut,
    /// Nothing more comes within the body.
    Stall,
    /// Bytes of the body are others.
    Garbage,
    /// The head promises more than comes.
    Longer,
    /// The body is not the one that was asked for, and as long as its head says.
    Shorter,
    /// No answer but this status, with `Retry-After: 1`.
    Refuse(u16),
    /// It is elsewhere: at the registry behind.
    Redirect,
    /// It is elsewhere: here, for ever.
    RedirectLoop,
    /// No HTTP at all.
    Noise,
}

/// A proxy before a registry that spoils the answers for one kind of path.
struct Proxy {
    address: String,
    spoilt: Arc<AtomicUsize>,
    /// The fault, what a path holds that has it, and how often it happens.
    plan: Arc<Mutex<(Fault, &'static str, usize)>>,
}

impl Proxy {
    fn start(registry: &Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let plan = Arc::new(Mutex::new((Fault::Cut, "", 0)));
        let spoilt = Arc::new(AtomicUsize::new(0));
        let (shared, count, behind) = (plan.clone(), spoilt.clone(), registry.address().to_owned());
        // It ends with the test's process; a client that goes away ends its thread.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (plan, count, behind) = (shared.clone(), count.clone(), behind.clone());
                std::thread::spawn(move || serve(client, &plan, &count, &behind));
            }
        });
        Self {
            address,
            spoilt,
            plan,
        }
    }

    fn plan(&self, fault: Fault, path: &'static str, times: usize) {
        *self.plan.lock().unwrap() = (fault, path, times);
        self.spoilt.store(0, Ordering::SeqCst);
    }
}

/// Passes one request on, and its answer back as the plan wants it. `None`: somebody went away, which ends it.
fn serve(
    mut client: TcpStream,
    plan: &Mutex<(Fault, &'static str, usize)>,
    spoilt: &AtomicUsize,
    behind: &str,
) -> Option<()> {
    let head = read_head(&mut client)?;
    let path = head.split(' ').nth(1)?.to_owned();
    let fault = {
        let mut plan = plan.lock().unwrap();
        let (fault, part, times) = *plan;
        let hit = times > 0 && path.contains(part) && head.starts_with("GET ");
        if hit {
            plan.2 = times - 1;
            spoilt.fetch_add(1, Ordering::SeqCst);
        }
        hit.then_some(fault)
    };
    let simple = |status: &str, header: &str| {
        format!(
            "HTTP/1.1 {status} Spoilt\r\nContent-Length: 0\r\nConnection: close\r\n{header}\r\n"
        )
    };
    match fault {
        Some(Fault::Refuse(401)) => {
            let challenge = "WWW-Authenticate: Basic realm=\"spoilt\"\r\n";
            return client.write_all(simple("401", challenge).as_bytes()).ok();
        }
        Some(Fault::Refuse(status)) => {
            let answer = simple(&status.to_string(), "Retry-After: 1\r\n");
            return client.write_all(answer.as_bytes()).ok();
        }
        Some(Fault::Redirect) => {
            let to = format!("Location: http://{behind}{path}\r\n");
            return client.write_all(simple("307", &to).as_bytes()).ok();
        }
        Some(Fault::RedirectLoop) => {
            let to = format!("Location: {path}\r\n");
            return client.write_all(simple("307", &to).as_bytes()).ok();
        }
        Some(Fault::Noise) => {
            return client
                .write_all(b"\x16\x03nothing that a client knows\r\n\r\n")
                .ok();
        }
        _ => {}
    }
    let mut registry = TcpStream::connect(behind).ok()?;
    let one_request: String = head
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let one_request = format!(
        "{}Connection: close\r\n\r\n",
        one_request.trim_end_matches("\r\n").to_owned() + "\r\n"
    );
    registry.write_all(one_request.as_bytes()).ok()?;
    let answer = read_head(&mut registry)?;
    let mut body = Vec::new();
    registry.read_to_end(&mut body).ok()?;
    let mut answer = format!("{answer}Connection: close\r\n\r\n");
    let whole = body.len();
    match fault {
        Some(Fault::Cut | Fault::Stall) => body.truncate(BEFORE.min(whole / 2)),
        Some(Fault::Garbage) => body
            .iter_mut()
            .skip(whole / 2)
            .take(64)
            .for_each(|byte| *byte ^= 0x55),
        Some(Fault::Longer) => answer = relengthen(&answer, whole, whole + 1000),
        Some(Fault::Shorter) => {
            body.truncate(whole / 2);
            answer = relengthen(&answer, whole, whole / 2);
        }
        _ => {}
    }
    client.write_all(answer.as_bytes()).ok()?;
    client.write_all(&body).ok()?;
    if fault == Some(Fault::Stall) {
        std::thread::sleep(STALL);
    }
    Some(())
}

fn relengthen(head: &str, from: usize, to: usize) -> String {
    let (from, to) = (
        format!("Content-Length: {from}\r\n"),
        format!("Content-Length: {to}\r\n"),
    );
    assert!(head.contains(&from), "{head}");
    head.replace(&from, &to)
}

/// The lines of a head, each with its end, without the empty one.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    head.truncate(head.len() - 2);
    String::from_utf8(head).ok()
}

/// A service, a registry with an image of one layer, and the bad network between them.
struct World {
    nacre: Nacre,
    proxy: Proxy,
    _registry: Registry,
}

impl World {
    fn new() -> Self {
        let registry = Registry::start();
        let mut nacre = Nacre::new();
        let settings = nacre.path("nacre.toml");
        fs::write(&settings, SETTINGS).unwrap();
        nacre.set("NACRE_CONFIG", settings.to_str().unwrap());
        let image = nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
        let name = registry.name("app:1");
        nacre.ok(&["tag", &image, &name]);
        nacre.ok(&["push", "-q", &name]);
        for name in [name.as_str(), image.as_str()] {
            nacre.run(&["image", "rm", "-f", name]);
        }
        let world = Self {
            proxy: Proxy::start(&registry),
            nacre,
            _registry: registry,
        };
        world.is_empty();
        world
    }

    fn name(&self) -> String {
        format!("{}/app:1", self.proxy.address)
    }

    fn is_empty(&self) {
        assert_eq!(self.nacre.ok(&["image", "ls", "-q"]), "");
        self.nacre.check();
        for folder in ["blobs", "archives"] {
            let left = files(&self.nacre.root().join(folder));
            assert_eq!(left, Vec::<String>::new(), "in {folder}");
        }
    }

    /// The pull succeeds although this happened so often.
    fn survives(&self, fault: Fault, path: &'static str, times: usize) {
        self.proxy.plan(fault, path, times);
        self.nacre.ok(&["pull", "-q", &self.name()]);
        assert_eq!(self.proxy.spoilt.load(Ordering::SeqCst), times, "{fault:?}");
        self.nacre.check();
        self.nacre.ok(&["image", "rm", &self.name()]);
        self.is_empty();
    }

    /// The pull fails, and says this.
    fn fails(&self, fault: Fault, path: &'static str, says: &str) {
        self.proxy.plan(fault, path, usize::MAX);
        self.nacre.fails(&["pull", "-q", &self.name()], 1, says);
        assert!(self.proxy.spoilt.load(Ordering::SeqCst) > 0, "{fault:?}");
        self.is_empty();
    }
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => vec![entry.path().display().to_string()],
        })
        .collect()
}

#[test]
fn what_happens_once_is_survived() {
    let world = World::new();
    for fault in [
        Fault::Cut,
        Fault::Stall,
        Fault::Refuse(429),
        Fault::Refuse(503),
        Fault::Redirect,
    ] {
        world.survives(fault, "/blobs/", 1);
    }
    for fault in [
        Fault::Cut,
        Fault::Stall,
        Fault::Refuse(429),
        Fault::Refuse(503),
        Fault::Redirect,
    ] {
        world.survives(fault, "/manifests/", 1);
    }
}

#[test]
fn what_happens_always_is_a_clear_error() {
    let world = World::new();
    let address = world.proxy.address.clone();
    for (fault, says) in [
        (Fault::Cut, address.as_str()),
        (Fault::Stall, address.as_str()),
        (Fault::Garbage, "sha256:"),
        (Fault::Longer, "sha256:"),
        (Fault::Refuse(429), "429"),
        (Fault::Refuse(503), "503"),
        (Fault::Refuse(401), "auth"),
        (Fault::RedirectLoop, "redirect"),
        (Fault::Noise, address.as_str()),
    ] {
        world.fails(fault, "/blobs/", says);
    }
    for (fault, says) in [
        (Fault::Cut, address.as_str()),
        (Fault::Stall, address.as_str()),
        (Fault::Garbage, "manifest"),
        (Fault::Shorter, "manifest"),
        (Fault::Refuse(401), "auth"),
        (Fault::Noise, address.as_str()),
    ] {
        world.fails(fault, "/manifests/", says);
    }
}

/// A layer that was complete when its pull was broken off is not fetched again, also by another service.
#[test]
fn complete_layers_are_not_fetched_again() {
    let registry = Registry::start();
    let mut nacre = Nacre::new();
    let settings = nacre.path("nacre.toml");
    fs::write(&settings, format!("{SETTINGS}layers-at-once = 1\n")).unwrap();
    nacre.set("NACRE_CONFIG", settings.to_str().unwrap());
    let image = nacre.ok(&["pull", "-q", &oci_source("many-layers")]);
    let name = registry.name("app:1");
    nacre.ok(&["tag", &image, &name]);
    nacre.ok(&["push", "-q", &name]);
    let from_nothing = Nacre::new();
    nacre = from_nothing;
    nacre.set("NACRE_FAILPOINT", "unpack.recorded=kill@5");
    assert_ne!(nacre.run(&["pull", "-q", &name]).code, 0);
    nacre.unset("NACRE_FAILPOINT");
    let lines = nacre.ok(&["pull", &name]);
    let present = lines
        .lines()
        .filter(|line| line.ends_with("Already exists"))
        .count();
    assert!(present >= 5, "{lines}");
    nacre.check();
}
