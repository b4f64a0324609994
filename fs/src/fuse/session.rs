//! A running connection: the threads that serve it, and what can be told to its kernel.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nacre_store::{FileName, Ino};
use parking_lot::{Condvar, Mutex};

use super::reply::{Reply, tell_content, tell_entry, tell_inode};
use super::team::{Seat, THREADS, Team};
use super::wire::{self, Header, Op};
use super::{Profile, Shell};
use crate::ahead::Ahead;
use crate::errno::Errno;
use crate::vfs::{Kernel, Vfs};

/// What is changed is on disk after so many seconds, as with ext4's journal: `syncfs` never reaches a FUSE server.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// A connection that is being served until its last mount is gone.
pub(crate) struct Connection {
    ended: Arc<Ended>,
}

/// Set once the serving threads are gone.
#[derive(Default)]
struct Ended {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl Ended {
    /// Waits until it is set or the time is over; returns whether it is set.
    fn wait(&self, time: Duration) -> bool {
        let until = Instant::now().checked_add(time);
        let mut flag = self.flag.lock();
        while !*flag {
            let Some(until) = until else {
                self.changed.wait(&mut flag);
                continue;
            };
            if self.changed.wait_until(&mut flag, until).timed_out() {
                break;
            }
        }
        *flag
    }

    fn set(&self) {
        *self.flag.lock() = true;
        self.changed.notify_all();
    }
}

/// Serves one request. A panic is answered with EIO: the thread goes on, and nobody waits for ever.
fn serve_one(
    device: BorrowedFd<'_>,
    bytes: &[u8],
    serve: impl FnOnce(&Header, &Op<'_>, &Reply<'_>),
) {
    let Ok((header, body)) = wire::header(bytes) else {
        return tracing::error!(bytes = bytes.len(), "the kernel sent what is no request");
    };
    let reply = Reply::new(device, header.unique);
    let Ok(op) = wire::op(header.opcode, body) else {
        tracing::error!(
            opcode = header.opcode,
            "the kernel sent a malformed request"
        );
        return reply.error(Errno::IO);
    };
    let served = catch_unwind(AssertUnwindSafe(|| serve(&header, &op, &reply)));
    if served.is_err() {
        tracing::error!(
            opcode = header.opcode,
            inode = header.node.0,
            "a request panicked"
        );
        if !matches!(op, Op::Forget { .. } | Op::BatchForget { .. }) {
            // Nothing is sent if the answer was out before the panic.
            reply.error(Errno::IO);
        }
    }
}

/// Answers the greeting.
fn greet(shell: &Shell, device: BorrowedFd<'_>, seat: &mut Seat) -> io::Result<()> {
    let Some(bytes) = seat.next()? else {
        return Err(io::Error::other("the connection ended before it began"));
    };
    let greeting = wire::header(bytes)
        .ok()
        .filter(|(header, _)| wire::is_init(header))
        .and_then(|(header, body)| Some((header, wire::init(body).ok()?)));
    let Some((header, offer)) = greeting else {
        return Err(io::Error::other("the kernel did not greet"));
    };
    let reply = Reply::new(device, header.unique);
    if offer.major != wire::MAJOR || offer.minor < MINOR_MIN {
        reply.error(Errno::PROTO);
        let text = format!("the kernel speaks FUSE {}.{}", offer.major, offer.minor);
        return Err(io::Error::other(text));
    }
    reply.data(shell.negotiate(&offer).body().as_ref());
    Ok(())
}

/// Linux 5.14, which the mount calls need anyway: the greeting has its present form.
const MINOR_MIN: u32 = 34;

impl Connection {
    /// Answers the kernel's greeting, which must be waiting on `device`, and serves from then on.
    pub(crate) fn start(
        vfs: Arc<Vfs>,
        profile: Profile,
        device: OwnedFd,
        ahead: Arc<Ahead>,
    ) -> io::Result<Self> {
        let device = Arc::new(device);
        let shell = Arc::new(Shell::new(vfs.clone(), profile, device.clone(), ahead));
        let team = Arc::new(Team::new(device.clone())?);
        let mut first = Seat::new(team.clone());
        greet(&shell, device.as_fd(), &mut first)?;
        vfs.set_kernel(Some(Box::new(Told(device))));
        let ended = Arc::new(Ended::default());
        let connection = Self {
            ended: ended.clone(),
        };
        let mut others = Vec::new();
        for _ in 1..THREADS {
            let (shell, seat) = (shell.clone(), Seat::new(team.clone()));
            let thread = thread::Builder::new().name("nacre-fuse".into());
            others.push(thread.spawn(move || work(&shell, seat, false))?);
        }
        if vfs.is_writable() {
            vfs.set_chores(true);
            let vfs = vfs.clone();
            let thread = thread::Builder::new().name("nacre-commit".into());
            others.push(thread.spawn(move || commit(&vfs))?);
        }
        thread::Builder::new()
            .name("nacre-fuse".into())
            .spawn(move || {
                work(&shell, first, true);
                vfs.set_chores(false);
                for other in others {
                    // It catches what panics in a request, and there is nothing else in it that could.
                    other.join().ok();
                }
                // The last mount is gone.
                let ahead = shell.end();
                vfs.set_kernel(None);
                // And with it the device: whoever still waits for an answer gets one.
                drop(shell);
                ahead.join();
                ended.set();
            })?;
        Ok(connection)
    }

    /// Whether the kernel still has it.
    pub(crate) fn is_alive(&self) -> bool {
        !*self.ended.flag.lock()
    }

    /// Waits for its end; returns whether it came.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        self.ended.wait(time)
    }
}

/// Makes changes durable on a timer, and ends what the kernel forgot meanwhile, until the connection is gone.
fn commit(vfs: &Vfs) {
    let mut last = Instant::now();
    while vfs.do_chores(COMMIT_EVERY.saturating_sub(last.elapsed())) {
        if last.elapsed() >= COMMIT_EVERY {
            last = Instant::now();
            if let Err(errno) = vfs.sync_if_dirty() {
                tracing::error!(%errno, "cannot make an upper durable, trying again");
            }
        }
    }
}

/// Serves until the connection is gone.
fn work(shell: &Shell, seat: Seat, reads: bool) {
    seat.work(reads, |team, bytes| {
        serve_one(team.device(), bytes, |header, op, reply| {
            if op.is_slow() {
                team.is_slow();
            }
            shell.serve(header, op, reply);
        });
    });
}

/// The kernel of this connection. Any error means that the connection is gone, and its caches with it.
struct Told(Arc<OwnedFd>);

impl Kernel for Told {
    fn attributes_changed(&self, ino: Ino) {
        // A negative offset: the attributes and ACLs only, no page; it waits for no lock of a request.
        if let Err(error) = tell_inode(&self.0, ino, -1) {
            tracing::debug!(%error, inode = ino.0, "the kernel was not told of changed attributes");
        }
    }

    fn content_changed(&self, ino: Ino) {
        if let Err(error) = tell_inode(&self.0, ino, 0) {
            tracing::debug!(%error, inode = ino.0, "the kernel was not told of changed content");
        }
    }

    fn content_is(&self, ino: Ino, bytes: &[u8]) {
        if let Err(error) = tell_content(&self.0, ino, bytes) {
            tracing::debug!(%error, inode = ino.0, "the kernel did not take a file's content");
        }
    }

    fn entry_changed(&self, dir: Ino, name: &FileName) {
        if let Err(error) = tell_entry(&self.0, dir, name) {
            tracing::debug!(%error, directory = dir.0, %name, "the kernel was not told of a changed name");
        }
        // The cached listing is the directory's content.
        self.content_changed(dir);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::fd::AsFd;

    use super::serve_one;

    fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(40 + body.len()).unwrap();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend(opcode.to_ne_bytes());
        bytes.extend(42_u64.to_ne_bytes());
        bytes.extend([0; 24]);
        bytes.extend(body);
        bytes
    }

    /// What the kernel would read, of at most one answer.
    fn answered(serve: impl FnOnce(&std::os::fd::OwnedFd)) -> Option<(i32, u64)> {
        let (read, write) = rustix::pipe::pipe().unwrap();
        serve(&write);
        drop(write);
        let mut bytes = [0; 64];
        let len = rustix::io::read(&read, &mut bytes).unwrap();
        let number = |at: usize| i32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(i32::try_from(len).unwrap(), number(0), "one whole answer");
        (len != 0).then(|| {
            (
                number(4),
                u64::from_ne_bytes(bytes[8..16].try_into().unwrap()),
            )
        })
    }

    #[test]
    fn a_panic_in_a_request_is_answered_with_eio() {
        let seen = answered(|device| {
            serve_one(device.as_fd(), &request(3, &[]), |_, _, _| {
                panic!("in a test")
            });
        });
        assert_eq!(seen, Some((-libc::EIO, 42)));
    }

    #[test]
    fn a_panic_after_the_answer_sends_no_second_one() {
        let seen = answered(|device| {
            serve_one(device.as_fd(), &request(3, &[]), |_, _, reply| {
                reply.empty(Ok(()));
                panic!("in a test");
            });
        });
        assert_eq!(seen, Some((0, 42)));
    }

    #[test]
    fn a_malformed_request_is_answered_and_a_forget_never_is() {
        let seen = answered(|device| {
            serve_one(device.as_fd(), &request(1, b"no end"), |_, _, _| {
                panic!("not served")
            });
        });
        assert_eq!(seen, Some((-libc::EIO, 42)));
        let seen = answered(|device| {
            serve_one(device.as_fd(), &request(2, &[0; 8]), |_, _, _| {
                panic!("in a test")
            });
        });
        assert_eq!(seen, None);
    }
}
