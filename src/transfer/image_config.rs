//! What a transfer must know of an image's configuration. Never writes one.

use nacre_store::DiffId;
use serde::Deserialize;

use super::error::{Error, Result};
use crate::registry::{LAYERS_MAX, Platform};

/// What a transfer must know.
pub(super) struct ImageConfig {
    /// What it runs on; none where it does not say.
    pub(super) platform: Option<Platform>,
    /// The bottom layer first.
    pub(super) diffs: Vec<DiffId>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    rootfs: Option<RootFs>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

impl ImageConfig {
    /// Reads a configuration; `name` is the image's, for errors.
    pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<ImageConfig> {
        let invalid = |what: String| Error::Config {
            name: name.to_owned(),
            what,
        };
        let wire: Wire =
            serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        let rootfs = wire
            .rootfs
            .ok_or_else(|| invalid("it has no rootfs".to_owned()))?;
        let diffs = rootfs.diff_ids.unwrap_or_default();
        if diffs.len() > LAYERS_MAX {
            return Err(invalid(format!("more than {LAYERS_MAX} layers")));
        }
        let diffs = diffs
            .iter()
            .map(|diff| diff.parse().map_err(|error| invalid(format!("{error}"))));
        let diffs = diffs.collect::<Result<Vec<DiffId>>>()?;
        let architecture = wire
            .architecture
            .filter(|architecture| !architecture.is_empty());
        let os = wire.os.filter(|os| !os.is_empty());
        let platform = match (os, architecture) {
            (None, None) => None,
            (os, architecture) => {
                let host = Platform::host();
                let (os, architecture) = (
                    os.unwrap_or(host.os),
                    architecture.unwrap_or(host.architecture),
                );
                Some(Platform::normal(
                    &os,
                    &architecture,
                    wire.variant.as_deref(),
                ))
            }
        };
        Ok(ImageConfig { platform, diffs })
    }

    /// Refuses an image that cannot run here, or is not for the platform that was asked for.
    pub(super) fn check_platform(&self, name: &str, wanted: Option<&Platform>) -> Result<()> {
        let Some(found) = &self.platform else {
            return Ok(());
        };
        if let Some(wanted) = wanted
            && wanted.distance(found).is_none()
        {
            return Err(Error::OtherPlatform {
                name: name.to_owned(),
                found: Box::new(found.clone()),
                wanted: Box::new(wanted.clone()),
            });
        }
        if found.os != "linux" {
            let what = format!(
                "image operating system {:?} cannot be used on this platform",
                found.os
            );
            return Err(Error::Config {
                name: name.to_owned(),
                what,
            });
        }
        Ok(())
    }
}
