//! Images between the store and the world: which registry, with whose credentials, under which name.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nacre_store::ImageId;

use super::error::{Error, Result};
use super::{Engine, image};
use crate::reference::Reference;
use crate::registry::{Client, Credentials, Direction, Platform, Settings, credentials};
use crate::transfer::{self, Loaded, Progress, Pulled, Pushed, ToSave};

/// Where an image comes from if not from a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalSource {
    /// A directory with an OCI layout, and an image's name within it.
    OciLayout(PathBuf, Option<String>),
    /// A file as docker's or skopeo's save writes it.
    DockerArchive(PathBuf),
}

impl LocalSource {
    /// Reads `oci:/DIR[:REF]` or `docker-archive:/FILE`.
    pub fn parse(text: &str) -> Result<LocalSource> {
        let bad = || {
            Error::invalid(format!(
                "invalid source {text:?}: expected oci:/DIR[:REF] or docker-archive:/FILE"
            ))
        };
        let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
        if !rest.starts_with('/') {
            return Err(bad());
        }
        match kind {
            "oci" => {
                // A directory may have a colon in its name; what exists wins.
                let whole = PathBuf::from(rest);
                if whole.is_dir() {
                    return Ok(LocalSource::OciLayout(whole, None));
                }
                let (dir, name) = rest
                    .split_once(':')
                    .map_or((rest, None), |(dir, name)| (dir, Some(name.to_owned())));
                Ok(LocalSource::OciLayout(PathBuf::from(dir), name))
            }
            "docker-archive" => Ok(LocalSource::DockerArchive(PathBuf::from(rest))),
            _ => Err(bad()),
        }
    }
}

impl Engine {
    /// A client for the registry of `name`, for a pull with the mirrors before it. Credentials that were not given are
    /// looked for where docker keeps them; a mirror's always are. Blocks.
    pub fn registry_client(
        &self,
        name: &Reference,
        given: Option<Credentials>,
        settings: &Settings,
        direction: Direction,
    ) -> Result<Client> {
        let own = match given {
            Some(credentials) => credentials,
            None => credentials::for_registry(name.domain())
                .map_err(|e| Error::invalid(e.to_string()))?,
        };
        let settings = settings.clone();
        let client = match direction {
            Direction::Pull => Client::for_pull(name, own, settings, &of_mirror),
            Direction::Push => Client::new(name.domain(), own, settings),
        };
        Ok(client.map_err(transfer::Error::from)?)
    }

    /// Pulls one image.
    pub async fn pull(
        &self,
        client: &Client,
        name: &Reference,
        platform: Option<&Platform>,
        progress: Arc<dyn Progress>,
    ) -> Result<Pulled> {
        let pulled = transfer::pull(
            &self.store,
            client,
            name,
            platform,
            &self.downloads,
            progress,
        )
        .await?;
        self.tell_image("pull", &pulled.image, &name.familiar());
        Ok(pulled)
    }

    /// Pushes one image; with a `platform` only if it is for that one.
    pub async fn push(
        &self,
        client: &Client,
        name: &Reference,
        platform: Option<&Platform>,
        progress: Arc<dyn Progress>,
    ) -> Result<Pushed> {
        let pushed = transfer::push(&self.store, client, name, platform, progress).await?;
        if let Some(id) = self.store.resolve(&pushed.reference.to_string())? {
            self.tell_image("push", &id, &pushed.reference.familiar());
        }
        Ok(pushed)
    }

    /// The complete names that a push to `repository` means: the tag, or all that it has, in order.
    pub fn names_to_push(
        &self,
        repository: &Reference,
        tag: Option<&str>,
    ) -> Result<Vec<Reference>> {
        let images = self.store.images()?;
        let tags = images
            .iter()
            .flat_map(image::tags)
            .filter(|known| known.repository() == repository.repository());
        let mut names: Vec<Reference> = tags.collect();
        if names.is_empty() {
            return Err(Error::not_found(format!(
                "An image does not exist locally with the tag: {}",
                repository.familiar_repository()
            )));
        }
        if let Some(tag) = tag {
            names.retain(|name| name.tag() == Some(tag));
            if names.is_empty() {
                let wanted = format!("{}:{tag}", repository.familiar_repository());
                return Err(Error::not_found(format!("tag does not exist: {wanted}")));
            }
        }
        names.sort_by(|a, b| a.tag().cmp(&b.tag()));
        Ok(names)
    }

    /// Takes an image out of a directory or a file.
    pub fn pull_local(
        &self,
        source: &LocalSource,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Vec<(ImageId, Vec<Reference>)>> {
        match source {
            LocalSource::OciLayout(dir, name) => {
                let pulled = transfer::pull_oci_layout(
                    &self.store,
                    dir,
                    name.as_deref(),
                    platform,
                    progress,
                )?;
                self.tell_image("pull", &pulled.image, &dir.display().to_string());
                Ok(vec![(pulled.image, pulled.reference.into_iter().collect())])
            }
            LocalSource::DockerArchive(path) => {
                let file = std::fs::File::open(path).map_err(Error::io("cannot open", path))?;
                let loaded = self.load(file, platform, progress)?;
                Ok(loaded
                    .into_iter()
                    .map(|loaded| (loaded.image, loaded.names))
                    .collect())
            }
        }
    }

    /// Takes in what save writes.
    pub fn load(
        &self,
        archive: impl Read,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>> {
        let loaded = transfer::load(&self.store, archive, platform, progress)?;
        for image in &loaded {
            self.tell_image("load", &image.image, &image.image.to_string());
        }
        Ok(loaded)
    }

    /// What is to be saved: an image by a name with that name, a repository with all its tags, an ID with none.
    pub fn to_save(&self, names: &[String]) -> Result<Vec<ToSave>> {
        let mut all: Vec<ToSave> = Vec::new();
        for name in names {
            let found = self.find_image(name)?;
            let names: Vec<Reference> = found
                .by
                .into_iter()
                .filter(|by| by.digest().is_none())
                .collect();
            match all.iter_mut().find(|saved| saved.image == found.image.id) {
                Some(saved) => {
                    let new: Vec<Reference> = names
                        .into_iter()
                        .filter(|name| !saved.names.contains(name))
                        .collect();
                    saved.names.extend(new);
                }
                None => all.push(ToSave {
                    image: found.image.id,
                    names,
                }),
            }
        }
        Ok(all)
    }

    /// Writes images as one archive.
    pub fn save(&self, images: &[ToSave], out: impl Write) -> Result<()> {
        transfer::save(&self.store, images, out)?;
        for image in images {
            self.tell_image("save", &image.image, &image.image.to_string());
        }
        Ok(())
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        self.store.root()
    }
}

/// What is known for a mirror. That its credentials cannot be read is no reason not to pull.
fn of_mirror(domain: &str) -> Credentials {
    credentials::for_registry(domain).unwrap_or_else(|error| {
        tracing::warn!(%error, "a mirror is asked without credentials");
        Credentials::Anonymous
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn local_sources_name_a_directory_or_a_file() {
        let parse = |text| LocalSource::parse(text).unwrap();
        assert_eq!(
            parse("oci:/no/such:v1"),
            LocalSource::OciLayout("/no/such".into(), Some("v1".into()))
        );
        assert_eq!(
            parse("oci:/no/such"),
            LocalSource::OciLayout("/no/such".into(), None)
        );
        assert_eq!(
            parse("docker-archive:/x.tar"),
            LocalSource::DockerArchive("/x.tar".into())
        );
        for bad in ["oci:rel", "dir:/x", "nothing", "oci:"] {
            assert!(LocalSource::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_existing_directory_may_have_a_colon() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a:b");
        std::fs::create_dir(&odd).unwrap();
        let text = format!("oci:{}", odd.display());
        assert_eq!(
            LocalSource::parse(&text).unwrap(),
            LocalSource::OciLayout(odd, None)
        );
    }
}
