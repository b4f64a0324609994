//! Joining a cgroup without the wait. The kernel lets the first who joins one wait until every processor has passed a quiet
//! point: ten milliseconds, a quarter of an exec; those who come within the next few do not wait. A shim has to join many, one
//! after another, and has first to be started: so a thread of the service goes first, as soon as a process is wanted.
//! It joins the cgroup that it is in: nothing moves.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often: the effect of one join may be over after a few milliseconds, and on a busy machine this thread comes late.
const EVERY: Duration = Duration::from_millis(1);

/// How long at most: a start that takes longer than this does not take long for that.
const LONGEST: Duration = Duration::from_millis(300);

/// Cgroups can be joined quickly as long as this lives; a little longer than the thread takes to notice.
pub struct Warm(Option<Sender<()>>);

impl Warm {
    /// Begins, and does not wait. Where it is not possible, a start takes as long as it takes.
    pub fn up() -> Warm {
        let (alive, over) = channel::<()>();
        let work = move || {
            let begun = Instant::now();
            let Some(own) = Own::find() else { return };
            while own.join().is_ok() && begun.elapsed() < LONGEST {
                if over.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let started = std::thread::Builder::new()
            .name("warm cgroups".into())
            .spawn(work);
        Warm(started.is_ok().then_some(alive))
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        // The thread hears it and leaves; nobody waits for that.
        self.0.take();
    }
}

/// The list of threads of the cgroup that the calling thread is in: of a first version's hierarchy, or of the second's.
struct Own {
    threads: File,
    this: String,
}

impl Own {
    fn find() -> Option<Own> {
        let table = fs::read_to_string("/proc/thread-self/cgroup").ok()?;
        let this = rustix::thread::gettid().as_raw_nonzero().to_string();
        table.lines().filter_map(list_of).find_map(|path| {
            // In a container the path may mean another cgroup than it says.
            let listed = fs::read_to_string(&path).ok()?;
            if !listed.lines().any(|line| line == this) {
                return None;
            }
            let threads = OpenOptions::new().write(true).open(&path).ok()?;
            let this = this.clone();
            Some(Own { threads, this })
        })
    }

    /// One thread alone, so that even a mistake could move no other.
    fn join(&self) -> io::Result<()> {
        self.threads.write_all_at(self.this.as_bytes(), 0)
    }
}

/// `4:freezer:/path`, or `0::/path` (cgroups(7)).
fn list_of(line: &str) -> Option<PathBuf> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    match controllers {
        "" => Some(format!("/sys/fs/cgroup{path}/cgroup.threads").into()),
        _ if controllers.contains('=') => None,
        _ => Some(format!("/sys/fs/cgroup/{controllers}{path}/tasks").into()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]
    use super::*;

    #[test]
    fn a_line_names_the_list_of_its_threads() {
        let table = [
            ("4:freezer:/a/b", Some("/sys/fs/cgroup/freezer/a/b/tasks")),
            ("2:cpu,cpuacct:/", Some("/sys/fs/cgroup/cpu,cpuacct//tasks")),
            (
                "0::/user.slice",
                Some("/sys/fs/cgroup/user.slice/cgroup.threads"),
            ),
            ("9:name=systemd:/", None),
            ("garbage", None),
        ];
        for (line, path) in table {
            assert_eq!(list_of(line), path.map(PathBuf::from), "{line}");
        }
    }

    fn median_of_joins(own: &Own, warm: bool) -> Duration {
        let one = |_| {
            // Longer than the last one's effect.
            std::thread::sleep(Duration::from_millis(120));
            let _warm = warm.then(Warm::up);
            std::thread::sleep(Duration::from_millis(40));
            let begun = Instant::now();
            own.join().unwrap();
            begun.elapsed()
        };
        let mut all: Vec<Duration> = (0..9).map(one).collect();
        all.sort();
        all[4]
    }

    #[test]
    fn a_warm_cgroup_is_joined_at_once() {
        let Some(own) = Own::find() else {
            eprintln!("skipped: this process is in no cgroup that it may join");
            return;
        };
        let (cold, warm) = (median_of_joins(&own, false), median_of_joins(&own, true));
        if cold < Duration::from_millis(2) {
            eprintln!("skipped: this kernel lets nobody wait ({cold:?})");
            return;
        }
        assert!(warm < cold / 2, "{warm:?} instead of {cold:?}");
    }
}
