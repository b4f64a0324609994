//! A registry on a bad network: every fault ends in success or in an error that names what failed; the store is whole, and no
//! temporary file stays.

use std::fs;
use std::io::Read as _;
use std::sync::atomic::Ordering;

use crate::faulty_proxy::{Fault, Proxy};
use crate::nacre::{Nacre, oci_source};
use crate::registry::Registry;

/// The settings of an impatient service: what waits for seconds in the world waits for one here.
const SETTINGS: &str = "stall-seconds = 1\nrequest-attempts = 2\nblob-attempts = 2\n";
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
        nacre.configure(SETTINGS);
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
            assert_eq!(self.nacre.kept(folder), Vec::<String>::new(), "in {folder}");
        }
    }

    /// The pull succeeds although this happened so often.
    fn survives(&self, fault: Fault, path: &'static str, times: usize) {
        self.proxy.plan(fault, path, times);
        self.nacre.ok(&["pull", "-q", &self.name()]);
        assert_eq!(self.proxy.spoilt(), times, "{fault:?}");
        self.nacre.check();
        self.nacre.ok(&["image", "rm", &self.name()]);
        self.is_empty();
    }

    /// The pull fails, and says this.
    fn fails(&self, fault: Fault, path: &'static str, says: &str) {
        self.proxy.plan(fault, path, usize::MAX);
        self.nacre.fails(&["pull", "-q", &self.name()], 1, says);
        assert!(self.proxy.spoilt() > 0, "{fault:?}");
        self.is_empty();
    }
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

/// A push whose connection breaks within a layer: what arrived is not sent again as far as the registry still has it.
#[test]
fn a_push_that_breaks_goes_on() {
    const MIB: u64 = 1 << 20;
    let world = World::new();
    let (nacre, proxy) = (&world.nacre, &world.proxy);
    let folder = nacre.folder("noise");
    let mut noise = vec![0; 30 << 20];
    fs::File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut noise)
        .unwrap();
    fs::write(folder.join("noise"), noise).unwrap();
    let tar = nacre.packed(&folder);
    let name = format!("{}/noise:1", proxy.address);
    nacre.ok(&["import", &tar, &name]);

    // docker-registry 2.8 forgets an upload of which an unknown part arrived: the second upload comes in chunks. When one of
    // those breaks before it reached the registry, only that one is sent again.
    let uploads = "/blobs/uploads/";
    *proxy.plan.faults.lock().unwrap() = vec![
        (Fault::CutUpload(5 * MIB), uploads, 1),
        (Fault::None, uploads, 1),
        (Fault::SwallowUpload(2 * MIB), uploads, 1),
    ];
    proxy.plan.sent.store(0, Ordering::SeqCst);
    let said = nacre.ok(&["push", &name]);
    assert!(said.contains("Retrying in "), "{said}");
    assert_eq!(proxy.spoilt(), 3);
    let sent = proxy.plan.sent.load(Ordering::SeqCst);
    let requests = proxy.plan.requests.lock().unwrap().clone();
    let count = |method: &str| {
        let at = |line: &&String| line.starts_with(method) && line.contains(uploads);
        requests.iter().filter(at).count()
    };
    assert!(
        sent < (30 + 5 + 2 + 1) * MIB,
        "{sent} bytes: what had arrived was sent again; {requests:?}"
    );
    // Two for the layer and one for the configuration; how far it is was asked after every break.
    assert_eq!((count("POST"), count("GET")), (3, 2), "{requests:?}");
    nacre.ok(&["image", "rm", &name]);
    nacre.ok(&["pull", "-q", &name]);
    nacre.ok(&["image", "rm", &name]);
    world.is_empty();

    // And one that breaks always is an error that says where.
    nacre.ok(&["import", &tar, &name]);
    proxy.plan(Fault::CutUpload(MIB), uploads, usize::MAX);
    let again = format!("{}/again:1", proxy.address);
    nacre.ok(&["tag", &name, &again]);
    // Not mounted from where it is.
    nacre.ok(&["image", "rm", &name]);
    nacre.fails(&["push", &again], 1, &proxy.address);
    nacre.ok(&["image", "rm", &again]);
    world.is_empty();
}

/// A layer that was complete when its pull was broken off is not fetched again, also by another service.
#[test]
fn complete_layers_are_not_fetched_again() {
    let registry = Registry::start();
    let nacre = Nacre::new();
    let image = nacre.ok(&["pull", "-q", &oci_source("many-layers")]);
    let name = registry.name("app:1");
    nacre.ok(&["tag", &image, &name]);
    nacre.ok(&["push", "-q", &name]);
    let mut nacre = Nacre::new();
    nacre.configure(&format!("{SETTINGS}layers-at-once = 1\n"));
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
