//! `GET /distribution/{name}/json`: what a registry has under a name, and for which platforms. Pulls nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::answer::{self, Outcome};
use super::call::Call;
use super::transfers;
use crate::engine::Error;
use crate::reference::Reference;
use crate::registry::{Direction, Fetched, Manifest};
use crate::transfer::{self, CONFIG_BYTES_MAX};

/// What is answered, in docker's names.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    descriptor: Descriptor,
    platforms: Option<Vec<Platform>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: usize,
}

/// A platform as the registry has it, not brought into our own form.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    os_features: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    platform: Platform,
}

/// Answers the request.
pub(crate) async fn inspect(call: Call, name: String) -> Outcome {
    let name = Reference::parse(&name).map_err(|e| Error::invalid(e.to_string()))?;
    let name = match name.digest() {
        Some(digest) => name.with_digest(*digest),
        None => name.or_latest(),
    };
    // Credentials that do not read are none: so docker has it here.
    let given = transfers::credentials(&call.headers).unwrap_or_default();
    let (engine, about) = (Arc::clone(&call.engine), Arc::clone(&call.about));
    let client = transfers::client(&engine, &about, &name, given, Direction::Pull).await?;
    let fetched = client.manifest(&name).await;
    let Fetched { raw, id, manifest } = fetched.map_err(transfer::Error::from)?;
    let platforms = match manifest {
        Manifest::Index(_) => {
            let index: Index = serde_json::from_slice(&raw.bytes)
                .map_err(|e| Error::broken(format!("{}: {e}", name.familiar())))?;
            let entries = index.manifests.into_iter();
            entries.map(|entry| entry.platform).collect()
        }
        Manifest::Image(image) => {
            let limit = CONFIG_BYTES_MAX as u64;
            let config = client
                .small_blob(&name, &image.config, "image config", limit)
                .await
                .map_err(transfer::Error::from)?;
            let platform: Option<Platform> = serde_json::from_slice(&config).ok();
            let known = |p: &Platform| !p.os.is_empty() || !p.architecture.is_empty();
            platform.filter(known).into_iter().collect::<Vec<_>>()
        }
    };
    answer::json(&Inspected {
        descriptor: Descriptor {
            media_type: raw.media_type,
            digest: id.to_string(),
            size: raw.bytes.len(),
        },
        platforms: Some(platforms).filter(|platforms| !platforms.is_empty()),
    })
}
