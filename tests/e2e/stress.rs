//! Many clients at once on layers that they share: pulling, mounting, changing, committing, running, removing. What one
//! may lose to another is a refusal in words; the store is clean at the end, and the disk is given back.

use std::fs;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::nacre::{Nacre, oci_source, run_tool};
use crate::registry::Registry;

/// Clients; each does one thing at a time.
const CLIENTS: u64 = 6;

/// How long they go on, unless `NACRE_SOAK_SECONDS` says more.
const SECONDS: u64 = 20;

/// Refusals that the races between clients entail, in docker's words and ours: what one wanted another had just removed,
/// replaced or in use. Anything else is a fault.
const LOST_RACES: &[&str] = &[
    "No such image",
    "no such image",
    "No such container",
    "no such mount",
    "conflict: unable to",
    "is in use by",
    "does not exist locally",
    "image is being used by",
    "is mounted on",
    "are being read",
    "no such layer",
    "manifest unknown",
    "a prune operation is already running",
];

/// What of the disk may be kept at the end, beyond what the empty store had: RocksDB's log of the last changes (it is
/// written on until 64 MiB; `db::WAL_BYTES_MAX`), and tables whose deleted keys wait for a compaction.
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// Reproducible choices.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        // Marsaglia's xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

struct Client<'a> {
    nacre: &'a Nacre,
    registry: &'a Registry,
    sources: &'a [String],
    number: u64,
    dice: Dice,
    /// Of each kind how many succeeded.
    done: &'a [AtomicU64; KINDS.len()],
}

/// What a client does, each as likely as another.
const KINDS: [&str; 6] = ["pull", "mount", "commit", "run", "remove", "prune"];

impl Client<'_> {
    /// Runs a command; says whether it succeeded. A refusal must be one of those that a race entails.
    fn tries(&self, args: &[&str]) -> bool {
        let done = self.nacre.run(args);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(
            done.code == 0 || LOST_RACES.iter().any(|words| said.contains(words)),
            "nacre {args:?} ended with {}:\n{said}",
            done.code
        );
        done.code == 0
    }

    fn point(&self) -> PathBuf {
        self.nacre.folder(&format!("m{}", self.number))
    }

    /// The image of a source, or one that was committed: under the registry's address, so that what is gone when it is
    /// wanted is asked for there.
    fn image(&mut self) -> String {
        match self.dice.next(4) {
            0 => self.registry.name("debian-min"),
            1 => self.registry.name("many-layers"),
            _ => self.made(),
        }
    }

    fn made(&mut self) -> String {
        self.registry
            .name(&format!("made:{}", self.dice.next(CLIENTS)))
    }

    /// Any image, also those of the layouts.
    fn victim(&mut self) -> String {
        match self.dice.next(6) {
            0 => "debian-min".to_owned(),
            1 => "many-layers".to_owned(),
            _ => self.image(),
        }
    }

    fn step(&mut self) {
        let kind = usize::try_from(self.dice.next(KINDS.len() as u64)).unwrap();
        let image = self.image();
        let own = format!("work{}", self.number);
        let succeeded = match KINDS[kind] {
            "pull" => {
                let at = usize::try_from(self.dice.next(self.sources.len() as u64)).unwrap();
                self.tries(&["pull", "-q", &self.sources[at]])
            }
            "mount" => self.mount(&own, &image, |_| true),
            "commit" => {
                let made = self.made();
                self.mount(&own, &image, |client| {
                    client.tries(&["commit", &own, &made])
                })
            }
            "run" => self.tries(&["run", "--rm", &image, "bash", "-c", "echo x >> /etc/issue"]),
            "remove" => {
                let victim = self.victim();
                self.tries(&["image", "rm", "-f", &victim])
            }
            _ => self.tries(&["image", "prune", "-f"]),
        };
        if succeeded {
            self.done[kind].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Mounts, changes, does `more` and takes the mount with its changes away again.
    fn mount(&mut self, own: &str, image: &str, more: impl FnOnce(&Self) -> bool) -> bool {
        let point = self.point();
        let target = point.to_str().unwrap();
        if !self.tries(&["mount", "--name", own, image, target]) {
            return false;
        }
        let number = self.number;
        let round = self.dice.next(1 << 30);
        // Small and large, new and changed, and something of the base that goes: each commit has layers of its own.
        fs::write(point.join("opt/small"), format!("{number} {round}")).unwrap();
        fs::write(point.join("opt/large"), vec![b'x'; 200_000]).unwrap();
        fs::write(
            point.join(format!("opt/{round}")),
            round.to_le_bytes().repeat(12_500),
        )
        .unwrap();
        fs::write(point.join("etc/issue"), "changed").unwrap();
        fs::remove_dir_all(point.join("usr/share/doc")).ok();
        let done = more(self);
        self.nacre.ok(&["umount", target]);
        self.nacre.ok(&["rm", own]);
        done
    }
}

fn disk_bytes(nacre: &Nacre) -> u64 {
    let root = nacre.root();
    let out = run_tool("du", &["-s", "--block-size=1", root.to_str().unwrap()]);
    out.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn many_clients_on_the_same_layers_leave_a_whole_store_and_an_empty_disk() {
    let nacre = Nacre::new();
    let registry = Registry::start();
    let sources = [
        registry.serve("debian-min"),
        registry.serve("many-layers"),
        oci_source("debian-min"),
        oci_source("many-layers"),
    ];
    nacre.ok(&["image", "ls"]);
    let empty = disk_bytes(&nacre);
    let seconds = std::env::var("NACRE_SOAK_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let seed = std::env::var("NACRE_SEED").map_or(1, |text| text.parse::<u64>().unwrap());
    eprintln!("stress: {seconds} s, seed {seed} (NACRE_SOAK_SECONDS, NACRE_SEED)");
    let done: [AtomicU64; KINDS.len()] = Default::default();
    let (start, deadline) = (
        Barrier::new(usize::try_from(CLIENTS).unwrap()),
        Instant::now() + Duration::from_secs(seconds),
    );
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (nacre, registry, sources) = (&nacre, &registry, &sources);
            let (done, start) = (&done, &start);
            scope.spawn(move || {
                let mut client = Client {
                    nacre,
                    registry,
                    sources,
                    number,
                    dice: Dice(
                        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                            .wrapping_add(number)
                            | 1,
                    ),
                    done,
                };
                start.wait();
                while Instant::now() < deadline {
                    client.step();
                }
            });
        }
    });
    let counts: Vec<String> = KINDS
        .iter()
        .zip(&done)
        .map(|(kind, count)| format!("{kind} {}", count.load(Ordering::Relaxed)))
        .collect();
    eprintln!("stress: succeeded: {}", counts.join(", "));
    for (kind, count) in KINDS.iter().zip(&done) {
        assert_ne!(count.load(Ordering::Relaxed), 0, "no {kind} ever succeeded");
    }
    nacre.check();

    assert_eq!(nacre.ok(&["ps", "-aq"]), "", "--rm leaves nothing");
    assert!(nacre.mount_points().is_empty());
    // A parent goes with its last child: some of these are gone when their turn comes.
    for _ in 0..CLIENTS * 4 {
        let left = nacre.ok(&["image", "ls", "-aq"]);
        let Some(first) = left.lines().next() else {
            break;
        };
        nacre.run(&["image", "rm", "-f", first]);
        nacre.ok(&["image", "prune", "-a", "-f"]);
    }
    assert_eq!(nacre.ok(&["image", "ls", "-aq"]), "");
    nacre.check();
    let served = disk_bytes(&nacre);
    // The log and the tables of what came and went are the database's until it is opened anew.
    nacre.ok(&["service", "--stop"]);
    nacre.check();
    let left = disk_bytes(&nacre);
    eprintln!("stress: du {empty} before, {served} after, {left} after a new start");
    assert!(
        left <= empty + KEPT_BYTES_MAX,
        "the empty store keeps {left} bytes, it had {empty} at first"
    );
}
