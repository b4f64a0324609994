//! The threads of a connection: how they wait for requests, and how many of them do.
//!
//! A wake-up costs more than most requests do (5 to 50 µs, where a look-up in memory takes 1), so
//!
//! * **one reader** serves as long as it keeps up. The others are parked, not in the kernel's queue, where every
//!   request would wake one of them in turn.
//! * **it looks again** for a moment before it sleeps, if requests came that fast before. Whoever else wants the
//!   processor gets it at once.
//! * **another one joins** when requests are always there already (several clients), before what is slow by nature (a
//!   sync, a copy), and when a request takes longer than a tick (a disk): nobody waits for another program's disk.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::{WRITE_BYTES_MAX, wire};
use crate::errno::Errno;

/// Threads of a connection. Most of the time all but one are parked.
pub(super) const THREADS: usize = 4;

/// How long a reader looks for the next request before it sleeps: a client's way from an answer to its next request is
/// 2 to 20 µs.
const PATIENCE: Duration = Duration::from_micros(50);

/// Requests in a row that were there already: more than one client's closing and opening brings.
const STREAK: u32 = 8;

/// Readers that a backlog calls. Two clients are served best by two; more only compete (measured on two cores).
const READERS: usize = 2;

/// A request that takes longer waits for a disk, and another reader joins.
const TICK: Duration = Duration::from_millis(1);

/// Ticks without a request after which nobody watches any more.
const TICKS_IDLE: u32 = 3;

/// Who of a connection's threads does what.
pub(super) struct Team {
    device: Arc<OwnedFd>,
    /// Whether a moment of looking can be spared: with one processor it would be the client's.
    patient: bool,
    state: Mutex<State>,
    changed: Condvar,
    /// Requests taken so far.
    taken: AtomicUsize,
    /// Requests being served.
    serving: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// Threads that read, those that are serving a request included.
    readers: usize,
    /// Readers that sleep until there is a request.
    asleep: usize,
    parked: usize,
    /// Parked threads that are wanted as readers.
    called: usize,
    watch: Watch,
    ended: bool,
}

/// Whether a parked thread looks at the clock.
#[derive(Default, PartialEq, Eq)]
enum Watch {
    /// No need to: a reader sleeps, and says so when it wakes.
    Off,
    /// One of them shall.
    #[default]
    Wanted,
    /// One of them does.
    Kept,
}

impl Team {
    /// A team without members. `device` is read without blocking from now on.
    pub(super) fn new(device: Arc<OwnedFd>) -> io::Result<Self> {
        fcntl_setfl(&device, fcntl_getfl(&device)? | OFlags::NONBLOCK)?;
        Ok(Self {
            device,
            patient: thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            taken: AtomicUsize::new(0),
            serving: AtomicUsize::new(0),
        })
    }

    /// Where requests come from and answers go.
    pub(super) fn device(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// The calling thread reads from now on.
    fn join(&self) {
        let mut state = self.state.lock();
        state.readers = state.readers.saturating_add(1);
    }

    /// Leaves the readers if another one of them waits for requests too.
    fn leave(&self) -> bool {
        let mut state = self.state.lock();
        let waiting = state
            .readers
            .saturating_sub(self.serving.load(Ordering::Relaxed));
        if waiting < 2 {
            return false;
        }
        state.readers = state.readers.saturating_sub(1);
        true
    }

    /// Waits until a reader is wanted, and joins the readers; `false` when the connection is gone.
    fn park(&self) -> bool {
        let mut state = self.state.lock();
        state.parked = state.parked.saturating_add(1);
        while !state.ended && state.called == 0 {
            if state.watch == Watch::Wanted {
                state.watch = Watch::Kept;
                self.watch(&mut state);
            } else {
                self.changed.wait(&mut state);
            }
        }
        state.parked = state.parked.saturating_sub(1);
        state.called = state.called.saturating_sub(1);
        state.readers = state.readers.saturating_add(1);
        if state.watch == Watch::Wanted {
            self.changed.notify_one();
        }
        !state.ended
    }

    /// Calls a reader when all of them are busy with the same requests for a tick. Ends when somebody is called, or when
    /// there is nothing to watch.
    fn watch(&self, state: &mut parking_lot::MutexGuard<'_, State>) {
        let (mut last, mut idle) = (self.taken.load(Ordering::Relaxed), 0);
        while !state.ended && state.called == 0 {
            self.changed.wait_for(state, TICK);
            let taken = self.taken.load(Ordering::Relaxed);
            if taken != last {
                (last, idle) = (taken, 0);
            } else if self.serving.load(Ordering::Relaxed) >= state.readers {
                state.called = state.called.saturating_add(1);
            } else if idle < TICKS_IDLE || state.asleep == 0 {
                idle = idle.saturating_add(1);
            } else {
                state.watch = Watch::Off;
                return;
            }
        }
        // This thread may be the one that is called.
        state.watch = Watch::Wanted;
    }

    /// Calls parked threads until there are so many readers.
    fn call(&self, readers: usize) {
        let mut state = self.state.lock();
        while state.readers.saturating_add(state.called) < readers && state.called < state.parked {
            state.called = state.called.saturating_add(1);
            self.changed.notify_one();
        }
    }

    /// A reader is about to do what takes long: another one shall read meanwhile.
    pub(super) fn is_slow(&self) {
        self.call(self.serving.load(Ordering::Relaxed).saturating_add(1));
    }

    /// Sleeps until there is something to read, or nothing ever again. From then on somebody has to watch.
    fn sleep(&self) -> Result<(), Errno> {
        let mut state = self.state.lock();
        state.asleep = state.asleep.saturating_add(1);
        drop(state);
        let done = poll(&mut [PollFd::new(&self.device, PollFlags::IN)], None);
        let mut state = self.state.lock();
        state.asleep = state.asleep.saturating_sub(1);
        if state.watch == Watch::Off {
            state.watch = Watch::Wanted;
            self.changed.notify_one();
        }
        match done {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// The connection is gone.
    fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }
}

/// A thread's place in the team: the request that it has at hand.
pub(super) struct Seat {
    team: Arc<Team>,
    buf: Vec<u8>,
    /// Requests in a row that were there already.
    streak: u32,
    /// Whether the last request came fast.
    fast: bool,
}

impl Seat {
    pub(super) fn new(team: Arc<Team>) -> Self {
        // The kernel asks for room for the largest write and all that precedes it, on whole pages.
        let write = usize::try_from(WRITE_BYTES_MAX).unwrap_or(0);
        let bytes = write.saturating_add(wire::WRITE_HEADER_BYTES.next_multiple_of(4096));
        Self {
            team,
            buf: vec![0; bytes],
            streak: 0,
            fast: false,
        }
    }

    /// Hands requests to `serve` until the connection is gone.
    pub(super) fn work(mut self, reads: bool, serve: impl Fn(&Team, &[u8])) {
        let team = self.team.clone();
        if reads {
            team.join();
        } else if !team.park() {
            return;
        }
        loop {
            match self.next() {
                Ok(Some(bytes)) => {
                    team.taken.fetch_add(1, Ordering::Relaxed);
                    team.serving.fetch_add(1, Ordering::Relaxed);
                    serve(&team, bytes);
                    team.serving.fetch_sub(1, Ordering::Relaxed);
                }
                Ok(None) if team.park() => {}
                Ok(None) => return,
                Err(Errno::NODEV | Errno::CONNABORTED) => return team.end(),
                Err(errno) => {
                    tracing::warn!(%errno, "a FUSE connection ended with an error");
                    return team.end();
                }
            }
        }
    }

    /// Waits for a request; `None` when this thread is one reader too many, and is none any more.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Errno> {
        let team = &*self.team;
        let (mut since, mut slept) = (None, false);
        let len = loop {
            match rustix::io::read(&team.device, self.buf.as_mut_slice()) {
                // The kernel never sends nothing; a socket does at its end.
                Ok(0) => return Err(Errno::NODEV),
                Ok(len) => break len,
                Err(Errno::AGAIN) => {}
                // A signal, or a request that was interrupted before it was read.
                Err(Errno::INTR | Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            }
            let began = *since.get_or_insert_with(Instant::now);
            if self.fast && team.patient && !slept && began.elapsed() < PATIENCE {
                thread::yield_now();
                continue;
            }
            if team.leave() {
                return Ok(None);
            }
            team.sleep()?;
            slept = true;
        };
        self.fast = since.is_none_or(|began| began.elapsed() < PATIENCE);
        if since.is_some() {
            self.streak = 0;
        } else {
            self.streak = self.streak.saturating_add(1);
            if self.streak == STREAK {
                self.streak = 0;
                team.call(READERS);
            }
        }
        Ok(Some(self.buf.get(..len).unwrap_or_default()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use parking_lot::Mutex;
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

    use super::{Seat, THREADS, Team};

    /// A bound that only a hang reaches.
    const LONG: Duration = Duration::from_secs(20);

    /// A team on a socket that keeps messages apart, as the device keeps requests.
    struct Served {
        team: Arc<Team>,
        client: OwnedFd,
        threads: Vec<JoinHandle<()>>,
    }

    impl Served {
        fn by(serve: impl Fn(&Team, &[u8]) + Send + Sync + 'static) -> Self {
            let (client, device) = socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )
            .unwrap();
            let team = Arc::new(Team::new(Arc::new(device)).unwrap());
            let serve = Arc::new(serve);
            let threads = (0..THREADS).map(|index| {
                let (seat, serve) = (Seat::new(team.clone()), serve.clone());
                std::thread::spawn(move || seat.work(index == 0, |team, bytes| serve(team, bytes)))
            });
            Self {
                threads: threads.collect(),
                team,
                client,
            }
        }

        fn send(&self, message: &[u8]) {
            send(&self.client, message, SendFlags::empty()).unwrap();
        }

        fn end(self) {
            drop(self.client);
            for thread in self.threads {
                thread.join().unwrap();
            }
        }
    }

    fn until(mut holds: impl FnMut() -> bool) -> bool {
        let began = Instant::now();
        while !holds() {
            if began.elapsed() > LONG {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    #[test]
    fn every_request_is_served_once_and_all_but_one_are_parked_after_it() {
        const REQUESTS: u32 = 20_000;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keeps = seen.clone();
        let served = Served::by(move |_, bytes| {
            keeps
                .lock()
                .push(u32::from_ne_bytes(bytes.try_into().unwrap()));
        });
        for number in 0..REQUESTS {
            served.send(&number.to_ne_bytes());
        }
        assert!(
            until(|| seen.lock().len() >= REQUESTS as usize),
            "all served"
        );
        assert!(
            until(|| served.team.state.lock().readers == 1),
            "one reader is left"
        );
        served.end();
        let mut seen = seen.lock().clone();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..REQUESTS), "each once");
    }

    /// Serves `b"wait"` until the test lets it go on, and tells of everything else.
    fn waiting(tells: bool) -> (Served, Arc<Mutex<()>>, Receiver<Vec<u8>>) {
        let gate = Arc::new(Mutex::new(()));
        let (send, receive) = channel();
        let waits = gate.clone();
        let served = Served::by(move |team, bytes| {
            if bytes == b"wait" {
                if tells {
                    team.is_slow();
                }
                drop(waits.lock());
            }
            send.send(bytes.to_vec()).ok();
        });
        (served, gate, receive)
    }

    #[test]
    fn a_request_that_takes_long_holds_up_nobody() {
        for tells in [true, false] {
            let (served, gate, receive) = waiting(tells);
            // All threads but one are kept.
            let shut = gate.lock();
            for number in 0..u8::try_from(THREADS - 1).unwrap() {
                served.send(b"wait");
                served.send(&[number]);
                assert_eq!(receive.recv_timeout(LONG), Ok(vec![number]), "{tells}");
            }
            drop(shut);
            served.end();
        }
    }

    #[test]
    fn after_a_sleep_somebody_watches_again() {
        let (served, gate, receive) = waiting(false);
        for round in 0..3 {
            assert!(
                until(|| served.team.state.lock().watch == super::Watch::Off),
                "nobody watches while nothing happens"
            );
            let shut = gate.lock();
            served.send(b"wait");
            served.send(&[round]);
            assert_eq!(receive.recv_timeout(LONG), Ok(vec![round]));
            drop(shut);
            assert_eq!(receive.recv_timeout(LONG), Ok(b"wait".to_vec()));
        }
        served.end();
    }
}
