//! Taking mounts away, and names with their changes. What is busy stays, and nothing is lost by it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nacre_fs::mount::MountError;
use nacre_store::DocumentKind;

use super::Engine;
use super::error::{Error, Result};
use super::events::attributes;
use super::mount_table::{self, Namespace};
use super::mounts::{Attached, State};
use super::roots::{Key, LET_GO};

/// How long the kernel gets for a tree that was unmounted lazily: enough if nobody is in it, and nobody waits if somebody is.
const NOT_WAITED_FOR: Duration = Duration::from_millis(100);

/// How long what is busy may take to be free. A program that is being started holds copies of all files that its starter has
/// open, between its fork and its exec: that is over in microseconds, or in as long as a busy disk takes to bring the program.
const BUSY_MOMENT: Duration = Duration::from_secs(1);

/// How often it is tried. Nothing is locked meanwhile.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// What is to be unmounted.
#[derive(Clone, Debug)]
pub enum Unmount {
    /// What is mounted there.
    Target(PathBuf),
    /// Every mount of a name.
    Name(String),
}

impl Unmount {
    fn means(&self, mount: &Attached) -> bool {
        match self {
            Self::Target(target) => mount.target == *target,
            Self::Name(name) => mount.name.as_ref() == Some(name),
        }
    }
}

impl Attached {
    fn take_away(&self, lazy: bool) -> Result<()> {
        let inside = self.namespace.as_ref().map(Namespace::descriptor);
        Ok(self.root.served().detach(&self.target, inside, lazy)?)
    }
}

impl Engine {
    /// Takes mounts away. What is busy for longer than a moment stays, and nothing is lost.
    pub fn unmount(&self, what: &Unmount, lazy: bool) -> Result<()> {
        self.notice_unmounts();
        {
            let state = self.mounts.0.lock();
            if !state.attached.iter().any(|mount| what.means(mount)) {
                return Err(not_mounted(&state, what));
            }
        }
        let until = Instant::now() + BUSY_MOMENT;
        while patiently(
            || self.unmount_one(what, lazy),
            || Instant::now() < until,
            || {
                std::thread::sleep(BUSY_PAUSE);
                // Somebody else may have taken it away meanwhile.
                self.notice_unmounts();
            },
        )? {
            if matches!(what, Unmount::Target(_)) {
                // One place, one mount: what lies under it was there before.
                break;
            }
        }
        Ok(())
    }

    /// Takes the newest of them away; says whether there was one.
    fn unmount_one(&self, what: &Unmount, lazy: bool) -> Result<bool> {
        let mut state = self.mounts.0.lock();
        let newest = state.attached.iter().rposition(|mount| what.means(mount));
        let Some((at, mount)) = newest.and_then(|at| Some((at, state.attached.get(at)?))) else {
            return Ok(false);
        };
        mount.take_away(lazy)?;
        let mount = state.attached.remove(at);
        self.was_unmounted(mount, lazy)?;
        Ok(true)
    }

    fn was_unmounted(&self, mount: Attached, lazy: bool) -> Result<()> {
        let target = mount.target.display().to_string();
        let name = mount.name.clone().unwrap_or_default();
        if mount.own_directory {
            // Left behind if something else is there meanwhile.
            drop(mount_table::within(mount.namespace.as_ref(), || {
                std::fs::remove_dir(&mount.target)
            }));
        }
        let key = mount.key;
        // The lease.
        drop(mount);
        self.events
            .tell("mount", "unmount", &target, attributes([("name", &name)]));
        let grace = if lazy { NOT_WAITED_FOR } else { LET_GO };
        match self.roots.let_go(key, grace) {
            // It ends with its last user; that is what lazy asks for.
            Err(Error::Mount(MountError::InUse { .. })) if lazy => Ok(()),
            done => done,
        }
    }

    /// Notices mounts that were taken away behind our back, by umount(8).
    pub fn notice_unmounts(&self) {
        let mut state = self.mounts.0.lock();
        let mut at = 0;
        while let Some(mount) = state.attached.get(at) {
            // A table that cannot be read says nothing.
            let gone = mount_table::read(mount.namespace.as_ref()).is_ok_and(|table| {
                let device = mount.root.served().device();
                !table
                    .iter()
                    .any(|entry| entry.device == device && entry.target == mount.target)
            });
            if gone {
                let mount = state.attached.remove(at);
                let target = mount.target.display().to_string();
                if let Err(error) = self.was_unmounted(mount, true) {
                    tracing::warn!(%target, %error, "cannot end a tree whose last mount was taken away");
                }
            } else {
                at += 1;
            }
        }
    }

    /// Removes a name with its changes.
    pub fn remove_kept(&self, name: &str) -> Result<()> {
        self.notice_unmounts();
        if let Some(kept) = self.mounts.kept(name) {
            // Before the lock is taken, as in `mount`.
            self.roots.wait_for_end(Key::Upper(kept.upper))?;
        }
        let mut state = self.mounts.0.lock();
        if !state.kept.iter().any(|kept| kept.name == name) {
            return Err(Error::NoSuchMount(name.to_owned()));
        }
        if let Some(mount) = state
            .attached
            .iter()
            .find(|mount| mount.name.as_deref() == Some(name))
        {
            return Err(Error::conflict(format!(
                "cannot remove the changes of mount \"{name}\": it is mounted on {}",
                mount.target.display()
            )));
        }
        self.forget_kept(&mut state, name)
    }

    pub(super) fn forget_kept(&self, state: &mut State, name: &str) -> Result<()> {
        let Some(at) = state.kept.iter().position(|kept| kept.name == name) else {
            return Ok(());
        };
        if let Some(kept) = state.kept.get(at) {
            self.roots.let_go(Key::Upper(kept.upper), LET_GO)?;
            if !self.roots.is_closed(kept.upper) {
                return Err(Error::conflict(format!(
                    "cannot remove the changes of mount \"{name}\": they are being read"
                )));
            }
            match self.store.remove_upper(kept.upper) {
                Ok(()) | Err(nacre_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.store.remove_document(DocumentKind::Mount, name)?;
        state.kept.remove(at);
        self.namespace.release(name);
        Ok(())
    }
}

/// Tries again while something is only busy and there is time left.
fn patiently<T>(
    mut attempt: impl FnMut() -> Result<T>,
    is_time_left: impl Fn() -> bool,
    pause: impl Fn(),
) -> Result<T> {
    loop {
        match attempt() {
            Err(Error::Mount(MountError::Busy { .. })) if is_time_left() => pause(),
            done => return done,
        }
    }
}

fn not_mounted(state: &State, what: &Unmount) -> Error {
    match what {
        Unmount::Target(target) => Error::not_found(format!(
            "nothing of nacre is mounted on {}",
            target.display()
        )),
        Unmount::Name(name) if state.kept.iter().any(|kept| kept.name == *name) => {
            Error::conflict(format!("mount \"{name}\" is not mounted"))
        }
        Unmount::Name(name) => Error::NoSuchMount(name.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::cell::Cell;

    use super::*;

    fn busy() -> Error {
        MountError::Busy {
            target: "/m".into(),
        }
        .into()
    }

    #[test]
    fn what_is_busy_for_a_moment_is_tried_again() {
        let left = Cell::new(3);
        let attempt = || match left.get() {
            0 => Ok("free"),
            _ => Err(busy()),
        };
        let pause = || left.set(left.get() - 1);
        assert_eq!(patiently(attempt, || true, pause).unwrap(), "free");
    }

    #[test]
    fn what_stays_busy_is_said_to_be_when_the_time_is_up() {
        let (tries, pauses) = (Cell::new(0), Cell::new(0));
        let attempt = || {
            tries.set(tries.get() + 1);
            Err::<(), _>(busy())
        };
        let done = patiently(
            attempt,
            || pauses.get() < 4,
            || pauses.set(pauses.get() + 1),
        );
        assert_eq!(done.unwrap_err().to_string(), "/m is busy");
        assert_eq!((tries.get(), pauses.get()), (5, 4));
    }

    #[test]
    fn no_other_error_is_waited_for() {
        let attempt = || Err::<(), _>(Error::conflict("no"));
        let done = patiently(attempt, || true, || unreachable!("it waited"));
        assert_eq!(done.unwrap_err().to_string(), "no");
    }
}
