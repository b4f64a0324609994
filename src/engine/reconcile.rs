//! After a start: containers that the last service left in the middle of something. Their shims live on, but their roots
//! went with the service, so that what still runs is ended.

use std::collections::HashSet;
use std::sync::Arc;

use nacre_store::UpperId;

use super::Engine;
use super::container::Phase;
use super::containers::Live;
use super::error::Result;
use super::namespace::Owner;
use crate::runtime::{Exit, Shim, ShimError, Whom};

impl Engine {
    /// Brings every container to a state that it can go on from.
    pub(crate) fn reconcile(&self) -> Result<()> {
        // Asked once, not by opening each: what that costs grows with what was changed in the layer.
        let layers = self.store.uppers()?.into_iter().map(|(upper, _)| upper);
        let layers: HashSet<UpperId> = layers.collect();
        for live in self.containers.all() {
            let document = live.document();
            self.namespace
                .put(&document.name, Owner::Container(document.id.clone()));
            match document.state.phase {
                Phase::Running | Phase::Paused => self.end_left_over(&live)?,
                // Its removal was broken off: what is half gone is of no use.
                Phase::Dead => self.remove_or_tell(&live),
                Phase::Created | Phase::Exited if !layers.contains(&document.upper) => {
                    self.remove_or_tell(&live);
                }
                Phase::Created | Phase::Exited => {}
            }
        }
        self.remove_nameless_uppers()
    }

    /// A service that was killed between a writable layer and the document that names it left a layer that nobody can ask
    /// for, and that holds its image's contents.
    fn remove_nameless_uppers(&self) -> Result<()> {
        let of_containers = self.containers.all().into_iter();
        let mut named: HashSet<UpperId> = of_containers.map(|live| live.document().upper).collect();
        named.extend(self.mounts.uppers());
        for (upper, _) in self.store.uppers()? {
            if !named.contains(&upper) {
                tracing::info!(
                    upper = upper.0,
                    "removing a writable layer that nothing names"
                );
                self.store.remove_upper(upper)?;
            }
        }
        Ok(())
    }

    fn end_left_over(&self, live: &Arc<Live>) -> Result<()> {
        let document = live.document();
        let dir = self.container_files(&document.id).shim();
        let exit = match Shim::open(&dir).and_then(end) {
            Ok(exit) => exit,
            Err(error) => {
                tracing::warn!(container = %document.id, %error, "the shim of a container left no word");
                Exit {
                    code: 128 + libc::SIGKILL,
                    oom_killed: false,
                    finished_at_ns: super::when::now(),
                    trouble: Some(error.to_string()),
                }
            }
        };
        if let Err(error) = Shim::open(&dir).and_then(Shim::delete) {
            tracing::warn!(container = %document.id, %error, "cannot clean up after a container");
        }
        live.update(&self.store, |document| {
            let state = &mut document.state;
            state.phase = Phase::Exited;
            state.pid = None;
            state.exit_code = exit.code;
            state.oom_killed = exit.oom_killed;
            state.finished = Some(exit.finished_at_ns);
            state.error = exit.trouble.unwrap_or_default();
        })?;
        live.tell(|turn| {
            turn.active = false;
            turn.exit_code = exit.code;
        });
        if document.host.auto_remove {
            self.remove_or_tell(live);
        }
        Ok(())
    }

    fn remove_or_tell(&self, live: &Arc<Live>) {
        if let Err(error) = self.remove_locked(live) {
            tracing::warn!(container = %live.document().id, %error, "cannot remove a container");
        }
    }
}

/// Ends what still runs; returns how it ended, by itself or by us.
fn end(shim: Shim) -> std::result::Result<Exit, ShimError> {
    if let Some(exit) = shim.exit()? {
        return Ok(exit);
    }
    let ours = "its root filesystem ended with the service that served it";
    match shim.signal(libc::SIGKILL, Whom::All) {
        Ok(()) | Err(ShimError::Ended(_)) => {}
        Err(error) => return Err(error),
    }
    let mut exit = shim.wait()?;
    exit.trouble.get_or_insert_with(|| ours.to_owned());
    Ok(exit)
}
