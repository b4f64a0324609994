//! Making a writable layer an image. The container goes on over its own base and its own layer.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use nacre_fs::layer;
use nacre_fs::vfs::Vfs;
use nacre_store::{Expected, Image, ImageId, NewImage, RefUpdate, Store, Unpacked};

use super::config::{Config, HistoryEntry, ImageConfig};
use super::container::{Container, Phase};
use super::diff::{Subject, snapshot};
use super::error::{Error, Result};
use super::start::Run;
use super::stop::run_of;
use super::{Engine, change, merge, when};
use crate::reference::Reference;
use crate::transfer::CONFIG_BYTES_MAX;

/// Bytes of the layer that are handed over at once.
const PIPE_BYTES: usize = 256 << 10;

/// What is to be committed.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// A container or a named mount.
    pub container: String,
    /// What the image is called.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// Changes to the configuration, as a Dockerfile has them.
    pub changes: Vec<String>,
    /// Stop a running container's processes meanwhile.
    pub pause: bool,
    /// A configuration that wins over the container's.
    pub config: Option<Config>,
}

/// A layer to be imported as an image of its own.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// What the image is called.
    pub name: Option<Reference>,
    /// Why.
    pub comment: String,
    /// Changes to the configuration, as a Dockerfile has them.
    pub changes: Vec<String>,
    /// Another platform than this machine's.
    pub platform: Option<crate::registry::Platform>,
}

impl Engine {
    /// Makes the changes of a container or a named mount an image.
    pub fn commit(&self, request: CommitRequest) -> Result<ImageId> {
        let subject = self.subject(&request.container)?;
        let _working = match &subject {
            Subject::Container(live, _) => Some(live.work.lock()),
            Subject::Mount { .. } => None,
        };
        let frozen = match &subject {
            Subject::Container(live, _) => {
                let document = live.document();
                if document.state.phase == Phase::Dead {
                    return Err(Error::conflict(format!(
                        "You cannot commit container {} which is Dead",
                        document.id
                    )));
                }
                let freeze = request.pause && document.state.phase == Phase::Running;
                match run_of(live).filter(|_| freeze) {
                    Some(run) => Some(self.freeze(run, document)?),
                    None => None,
                }
            }
            Subject::Mount { .. } => None,
        };
        let vfs = self
            .roots
            .tree(&self.store, subject.upper(), &request.container)?;
        let layer = self.layer_of(&vfs, &request.container)?;
        // Its processes need not wait for the image.
        drop(frozen);
        let id = self.publish_commit(&subject, &request, layer)?;
        if let Some(name) = &request.name {
            self.tell_image("tag", &id, &name.familiar());
        }
        if let Subject::Container(_, document) = &subject {
            let name = request
                .name
                .as_ref()
                .map(Reference::familiar)
                .unwrap_or_default();
            self.tell_container(
                "commit",
                document,
                [
                    ("comment", request.comment.clone()),
                    ("imageID", id.to_string()),
                    ("imageRef", name),
                ],
            );
        }
        Ok(id)
    }

    fn freeze(&self, run: Run, document: Container) -> Result<Frozen<'_>> {
        match run.shim.pause() {
            Ok(()) => {
                self.tell_container("pause", &document, []);
                Ok(Frozen {
                    engine: self,
                    run: Some(run),
                    document,
                })
            }
            // It has just ended: nothing to freeze.
            Err(crate::runtime::ShimError::Ended(_)) => Ok(Frozen {
                engine: self,
                run: None,
                document,
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// The changes as a layer of the store; none if there are none.
    fn layer_of(&self, vfs: &Arc<Vfs>, name: &str) -> Result<Option<Unpacked>> {
        let fail = |errno: nacre_fs::errno::Errno| Error::Io {
            what: "cannot make durable",
            path: name.into(),
            source: errno.into(),
        };
        vfs.sync().map_err(fail)?;
        let snapshot = snapshot(vfs, name)?;
        if snapshot.changes()?.is_empty() {
            return Ok(None);
        }
        let (reader, writer) =
            io::pipe().map_err(|e| Error::broken(format!("cannot make a pipe: {e}")))?;
        let (written, unpacked) = std::thread::scope(|scope| {
            let unpacking =
                scope.spawn(|| self.store.unpack(reader, &Expected::default(), &|_| ()));
            let mut out = BufWriter::with_capacity(PIPE_BYTES, writer);
            let written = layer::write(&snapshot, &**vfs, &mut out);
            // A flush that fails shows at the reader's end.
            out.flush().ok();
            drop(out);
            (written, unpacking.join())
        });
        // If the store refused, the writer failed for it: the store knows why.
        let unpacked = unpacked
            .map_err(|_| Error::broken(format!("storing the layer of {name} failed")))??;
        written?;
        Ok(Some(unpacked))
    }

    fn publish_commit(
        &self,
        subject: &Subject,
        request: &CommitRequest,
        layer: Option<Unpacked>,
    ) -> Result<ImageId> {
        let parent = subject.image();
        let image = self
            .store
            .image(&parent)?
            .ok_or_else(|| Error::NoSuchImage(parent.to_string()))?;
        let mut image_config = ImageConfig::parse(&parent, &image.config)?;
        let (own, created_by) = match subject {
            Subject::Container(_, document) => (
                document.config.clone(),
                document.config.cmd.clone().unwrap_or_default().join(" "),
            ),
            Subject::Mount { .. } => (image_config.config(), String::new()),
        };
        let mut config = match &request.config {
            Some(given) => {
                let mut given = given.clone();
                merge::inherit(&mut given, &own);
                given
            }
            None => own,
        };
        change::apply(&mut config, &request.changes)?;
        let created = when::rfc3339(when::now());
        image_config.set("created", created.as_str());
        set_or_unset(&mut image_config, "author", &request.author);
        match subject {
            Subject::Container(_, document) => image_config.set("container", document.id.as_str()),
            Subject::Mount { .. } => image_config.unset("container"),
        }
        // docker's builder left there how it ran the last step, which this is not.
        image_config.unset("container_config");
        image_config.set_config(&config);
        let entry = HistoryEntry {
            created: Some(created),
            created_by: Some(created_by),
            author: some(&request.author),
            comment: some(&request.comment),
            empty_layer: layer.is_none().then_some(true),
        };
        image_config.push(&entry, layer.as_ref().map(|layer| &layer.diff));
        let mut layers = layers_of(&self.store, &image)?;
        layers.extend(layer);
        self.publish(&image_config, layers, request.name.as_ref(), Some(parent))
    }

    fn publish(
        &self,
        config: &ImageConfig,
        layers: Vec<Unpacked>,
        name: Option<&Reference>,
        parent: Option<ImageId>,
    ) -> Result<ImageId> {
        let refs = name
            .map(|name| RefUpdate {
                name: name.to_string(),
            })
            .into_iter()
            .collect();
        let image = NewImage {
            config: bounded(config.to_bytes())?,
            manifest: None,
            layers,
            refs,
            parent,
        };
        Ok(self.store.publish(image, &|_| ())?)
    }

    /// Makes a root filesystem's archive an image of one layer.
    pub fn import(&self, archive: impl io::Read, request: &ImportRequest) -> Result<ImageId> {
        let mut config = Config::default();
        change::apply(&mut config, &request.changes)?;
        let layer = crate::transfer::import_rootfs(&self.store, archive)?;
        let created = when::rfc3339(when::now());
        let mut image = ImageConfig::scratch();
        if let Some(platform) = &request.platform {
            image.set("architecture", platform.architecture.as_str());
            image.set("os", platform.os.as_str());
            match &platform.variant {
                Some(variant) => image.set("variant", variant.as_str()),
                None => image.unset("variant"),
            }
        }
        image.set("created", created.as_str());
        image.set_config(&config);
        let comment = if request.comment.is_empty() {
            "Imported from -"
        } else {
            &request.comment
        };
        let entry = HistoryEntry {
            created: Some(created),
            comment: Some(comment.to_owned()),
            ..HistoryEntry::default()
        };
        image.push(&entry, Some(&layer.diff));
        let id = self.publish(&image, vec![layer], request.name.as_ref(), None)?;
        self.tell_image(
            "import",
            &id,
            &request
                .name
                .as_ref()
                .map(Reference::familiar)
                .unwrap_or_default(),
        );
        Ok(id)
    }
}

/// A larger configuration could be neither pulled nor loaded again.
fn bounded(config: Vec<u8>) -> Result<Vec<u8>> {
    if config.len() > CONFIG_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the image's configuration would have {} bytes, and at most {CONFIG_BYTES_MAX} can be pulled or loaded again: make its variables, labels or history shorter",
            config.len()
        )));
    }
    Ok(config)
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn set_or_unset(config: &mut ImageConfig, key: &str, text: &str) {
    if text.is_empty() {
        config.unset(key);
    } else {
        config.set(key, text);
    }
}

/// An image's layers, held so that nobody collects them meanwhile.
fn layers_of(store: &Store, image: &Image) -> Result<Vec<Unpacked>> {
    let held = |layer: &nacre_store::LayerInfo| {
        // By archive first: a push then finds the layer as it was received.
        if let Some((archive, _)) = &layer.archive
            && let Some(unpacked) = store.unpacked_by_archive(archive)?
            && unpacked.diff == layer.diff
        {
            return Ok(unpacked);
        }
        let missing = || nacre_store::Error::NotFound {
            what: "layer",
            name: layer.diff.to_string(),
        };
        Ok(store.unpacked_by_diff(&layer.diff)?.ok_or_else(missing)?)
    };
    image.layers.iter().map(held).collect()
}

/// A container whose processes stand still until this is dropped.
struct Frozen<'a> {
    engine: &'a Engine,
    run: Option<Run>,
    document: Container,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let Some(run) = &self.run else { return };
        match run.shim.resume() {
            Ok(()) => self.engine.tell_container("unpause", &self.document, []),
            Err(error) => {
                tracing::error!(container = %self.document.id, %error, "cannot let a container go on after a commit");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_configuration_that_could_not_be_pulled_again_is_not_made() {
        assert!(bounded(vec![b' '; CONFIG_BYTES_MAX]).is_ok());
        let error = bounded(vec![b' '; CONFIG_BYTES_MAX + 1]).unwrap_err();
        assert!(error.to_string().contains("4194305 bytes"), "{error}");
    }
}
