//! Ending, freezing and removing containers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nacre_store::DocumentKind;

use super::container::{Container, Phase};
use super::containers::{Live, not_running};
use super::error::{Error, Result};
use super::filters::Filters;
use super::start::Run;
use super::{Engine, signal, when};
use crate::runtime::{Shim, Whom};

/// Seconds between the signal that asks and the one that does not, unless the container says otherwise.
const STOP_SECONDS: i64 = 10;

/// How long a killed process may take to be gone. Uninterruptible sleep can last; then the error says so.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// What a prune of containers did.
#[derive(Clone, Debug, Default)]
pub struct PrunedContainers {
    /// Who went.
    pub ids: Vec<String>,
    /// Bytes of their data files.
    pub bytes: u64,
}

impl Engine {
    /// Asks a container's process to end, and kills it if it does not in time. Negative seconds wait for ever.
    pub fn stop_container(
        &self,
        text: &str,
        with: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<()> {
        let live = self.containers.find(text)?;
        let _working = live.work.lock();
        self.stop_locked(&live, with, seconds)
    }

    fn stop_locked(&self, live: &Live, with: Option<&str>, seconds: Option<i64>) -> Result<()> {
        let document = live.document();
        let (Some(run), true) = (run_of(live), document.state.phase.is_active()) else {
            return Err(Error::unchanged());
        };
        let configured = Some(document.config.stop_signal.as_str()).filter(|name| !name.is_empty());
        let number = signal::parse(with.or(configured).unwrap_or("TERM"))?;
        let seconds = seconds
            .or(document.config.stop_timeout)
            .unwrap_or(STOP_SECONDS);
        let before = live.turns.borrow().exits;
        let has_ended = |turn: &super::Turn| turn.exits != before;
        self.send(&run, &document, number)?;
        if document.state.phase == Phase::Paused {
            // A frozen process hears nothing.
            ended_is_fine(run.shim.resume())?;
        }
        let deadline = u64::try_from(seconds)
            .ok()
            .map(|seconds| Instant::now() + Duration::from_secs(seconds));
        if !live.wait_until(has_ended, deadline) {
            self.kill_and_wait(live, &run, &document)?;
        }
        self.tell_container("stop", &document, []);
        Ok(())
    }

    fn kill_and_wait(&self, live: &Live, run: &Run, document: &Container) -> Result<()> {
        let before = live.turns.borrow().exits;
        self.send(run, document, libc::SIGKILL)?;
        if document.state.phase == Phase::Paused {
            ended_is_fine(run.shim.resume())?;
        }
        let gone = |turn: &super::Turn| turn.exits != before || !turn.active;
        if live.wait_until(gone, Some(Instant::now() + KILL_PATIENCE)) {
            return Ok(());
        }
        Err(Error::broken(format!(
            "cannot kill container {}: its process has not ended within {} seconds of SIGKILL",
            document.id,
            KILL_PATIENCE.as_secs()
        )))
    }

    fn send(&self, run: &Run, document: &Container, number: i32) -> Result<()> {
        self.tell_container("kill", document, [("signal", number.to_string())]);
        ended_is_fine(run.shim.signal(number, Whom::Process))
    }

    /// Stops and starts.
    pub fn restart_container(
        self: &Arc<Self>,
        text: &str,
        with: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<()> {
        let live = self.containers.find(text)?;
        let _working = live.work.lock();
        if live.phase().is_active() {
            self.stop_locked(&live, with, seconds)?;
        }
        self.start_locked(&live)?;
        self.tell_container("restart", &live.document(), []);
        Ok(())
    }

    /// Sends a signal to a container's process.
    pub fn kill_container(&self, text: &str, with: Option<&str>) -> Result<()> {
        let number = signal::parse(with.unwrap_or("KILL"))?;
        let live = self.containers.find(text)?;
        let document = live.document();
        let (Some(run), true) = (run_of(&live), document.state.phase.is_active()) else {
            return Err(Error::conflict(format!(
                "cannot kill container: {text}: container {} is not running",
                document.id
            )));
        };
        if number == libc::SIGKILL {
            // This one is always obeyed, so that the answer is the end.
            return self.kill_and_wait(&live, &run, &document);
        }
        self.send(&run, &document, number)
    }

    /// Freezes a container's processes.
    pub fn pause_container(&self, text: &str) -> Result<()> {
        let live = self.containers.find(text)?;
        let _working = live.work.lock();
        let document = live.document();
        match (document.state.phase, run_of(&live)) {
            (Phase::Paused, _) => Err(Error::conflict(format!(
                "container {} is already paused",
                document.id
            ))),
            (Phase::Running, Some(run)) => {
                run.shim.pause()?;
                live.update(&self.store, |document| document.state.phase = Phase::Paused)?;
                self.tell_container("pause", &document, []);
                Ok(())
            }
            _ => Err(not_running(&document)),
        }
    }

    /// Lets them go on.
    pub fn unpause_container(&self, text: &str) -> Result<()> {
        let live = self.containers.find(text)?;
        let _working = live.work.lock();
        let document = live.document();
        match (document.state.phase, run_of(&live)) {
            (Phase::Paused, Some(run)) => {
                run.shim.resume()?;
                live.update(&self.store, |document| {
                    document.state.phase = Phase::Running
                })?;
                self.tell_container("unpause", &document, []);
                Ok(())
            }
            _ => Err(Error::conflict(format!(
                "Container {} is not paused",
                document.id
            ))),
        }
    }

    /// Removes a container with its writable layer, or what is kept under the name of a mount.
    pub fn remove_container(&self, text: &str, force: bool) -> Result<()> {
        // Containers and mounts share their names; a whole name goes before the beginning of an ID.
        let name = text.strip_prefix('/').unwrap_or(text);
        if self.mounts.kept(name).is_some() {
            return self.remove_kept(name);
        }
        let live = self.containers.find(text)?;
        let _working = live.work.lock();
        if live.turns.borrow().gone {
            return Err(Error::NoSuchContainer(text.to_owned()));
        }
        let document = live.document();
        if document.state.phase.is_active() {
            if !force {
                let state = if document.state.phase == Phase::Paused {
                    "paused"
                } else {
                    "running"
                };
                let hint = "stop the container before removing or force remove";
                let name = &document.name;
                return Err(Error::conflict(format!(
                    "cannot remove container \"{name}\": container is {state}: {hint}"
                )));
            }
            if let Some(run) = run_of(&live) {
                self.kill_and_wait(&live, &run, &document)?;
            }
        }
        self.remove_locked(&live)
    }

    /// The caller holds `work`, and the container has no process. What fails half-way is left marked as dead.
    pub(crate) fn remove_locked(&self, live: &Arc<Live>) -> Result<()> {
        let document = live.document();
        if let Some(target) = self.mounts.place_of(document.upper) {
            return Err(Error::conflict(format!(
                "cannot remove container \"{}\": it is mounted on {}: unmount it first",
                document.name,
                target.display()
            )));
        }
        // Whoever still reads it, as a list with sizes does, is done soon; if not, the removal goes on another time.
        if !self.roots.is_closed(document.upper) {
            return Err(Error::conflict(format!(
                "cannot remove container {}: its changes are being read",
                document.id
            )));
        }
        live.note(|document| document.state.phase = Phase::Dead);
        if let Err(error) = self.remove_parts(&document) {
            live.update(&self.store, |document| {
                document.state.phase = Phase::Dead;
                document.state.error = error.to_string();
            })?;
            return Err(error);
        }
        self.containers.forget(&document.id);
        self.namespace.release(&document.name);
        self.tell_container("destroy", &document, []);
        live.waiting.lock().clear();
        live.tell(|turn| {
            turn.active = false;
            turn.gone = true;
        });
        Ok(())
    }

    /// The document goes last: a removal that is broken off by the end of the service is finished by the next one, which
    /// finds a container without its layer.
    fn remove_parts(&self, document: &Container) -> Result<()> {
        match self.store.remove_upper(document.upper) {
            Ok(()) | Err(nacre_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let files = self.container_files(&document.id);
        if let Ok(shim) = Shim::open(files.shim()) {
            drop(shim.delete());
        }
        match std::fs::remove_dir_all(files.dir()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("cannot remove", files.dir())(error));
            }
            _ => {}
        }
        Ok(self
            .store
            .remove_document(DocumentKind::Container, document.id.as_str())?)
    }

    /// Removes containers that have no process.
    pub fn prune_containers(&self, filters: &Filters) -> Result<PrunedContainers> {
        filters.only(&["label", "label!", "until"])?;
        let until = filters.get("until").iter().map(|text| {
            when::point(text, when::now())
                .ok_or_else(|| Error::invalid(format!("invalid filter 'until={text}'")))
        });
        let until = until.collect::<Result<Vec<_>>>()?.into_iter().min();
        let mut pruned = PrunedContainers::default();
        for live in self.containers.all() {
            let Some(_working) = live.work.try_lock() else {
                continue;
            };
            let document = live.document();
            let labels = document.config.labels.clone().unwrap_or_default();
            let spared = document.state.phase.is_active()
                || live.turns.borrow().gone
                || until.is_some_and(|until| document.created >= until)
                || !filters.labels_match("label", &labels)
                || filters.has("label!") && filters.labels_match("label!", &labels);
            if !spared {
                let bytes = self.upper_bytes(&document).unwrap_or(0);
                self.remove_locked(&live)?;
                pruned.bytes = pruned.bytes.saturating_add(bytes);
                pruned.ids.push(document.id.to_string());
            }
        }
        Ok(pruned)
    }
}

pub(crate) fn run_of(live: &Live) -> Option<Run> {
    live.run.lock().clone()
}

/// A process that ended before it could be asked is what stopping wants.
fn ended_is_fine(asked: std::result::Result<(), crate::runtime::ShimError>) -> Result<()> {
    match asked {
        Err(crate::runtime::ShimError::Ended(_)) => Ok(()),
        other => Ok(other?),
    }
}
