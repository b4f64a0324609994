//! The image routes that touch no network and no archive. Translates only.

use axum::http::StatusCode;
use nacre_cli::api;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer::{self, Outcome};
use super::call::Call;
use super::params::ApiVersion;
use crate::engine::{Error, Filters, ImageConfig, ImageStep, Listed, RemoveOptions, image, when};
use crate::reference::Reference;

/// Rows of nameless images say so below this version.
const EMPTY_NAMES_SINCE: ApiVersion = ApiVersion(1, 43);
/// The size stands twice below this version.
const ONE_SIZE_SINCE: ApiVersion = ApiVersion(1, 44);

pub(crate) async fn list(call: Call) -> Outcome {
    let mut filters = call.params.filters()?;
    if let Some(pattern) = call.params.some("filter") {
        filters.add("reference", pattern);
    }
    let all = call.params.flag("all", false);
    let listed = call
        .work(move |engine| engine.list_images(&filters, all))
        .await?;
    let rows: Vec<api::ImageSummary> = listed
        .iter()
        .map(|image| summary(image, call.version))
        .collect();
    answer::json(&rows)
}

/// One row of a list; containers and shared sizes are not counted there.
pub(crate) fn summary(listed: &Listed, version: ApiVersion) -> api::ImageSummary {
    let image = &listed.image;
    let size = signed(image::bytes(image));
    let mut row = api::ImageSummary {
        created: listed.created,
        id: image.id.to_string(),
        labels: listed.labels.clone(),
        parent_id: image.parent.map(|id| id.to_string()).unwrap_or_default(),
        repo_digests: familiar(&listed.digests),
        repo_tags: familiar(&listed.tags),
        size,
        virtual_size: (version < ONE_SIZE_SINCE).then_some(size),
        ..api::ImageSummary::default()
    };
    if version < EMPTY_NAMES_SINCE && row.repo_tags.is_empty() && row.repo_digests.is_empty() {
        row.repo_tags.push("<none>:<none>".to_owned());
        row.repo_digests.push("<none>@<none>".to_owned());
    }
    row
}

fn familiar(names: &[Reference]) -> Vec<String> {
    names.iter().map(Reference::familiar).collect()
}

/// Sizes are signed on the wire.
pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(crate) async fn inspect(call: Call, name: String) -> Outcome {
    let version = call.version;
    let found = call.work(move |engine| engine.find_image(&name)).await?;
    answer::json(&inspected(&found.image, version)?)
}

fn inspected(image: &nacre_store::Image, version: ApiVersion) -> Result<api::ImageInspect, Error> {
    let config = ImageConfig::parse(&image.id, &image.config)?;
    let size = signed(image::bytes(image));
    let created = when::parse(config.text("created"));
    Ok(api::ImageInspect {
        id: image.id.to_string(),
        repo_tags: familiar(&image::tags(image)),
        repo_digests: familiar(&image::digests(image)),
        parent: image.parent.map(|id| id.to_string()).unwrap_or_default(),
        comment: config
            .history()
            .last()
            .and_then(|step| step.comment.clone())
            .unwrap_or_default(),
        created: created.map(when::rfc3339).unwrap_or_default(),
        docker_version: config.text("docker_version").to_owned(),
        author: config.text("author").to_owned(),
        config: reshape(&config.config())?,
        architecture: config.text("architecture").to_owned(),
        variant: config.text("variant").to_owned(),
        os: config.text("os").to_owned(),
        os_version: config.text("os.version").to_owned(),
        size,
        virtual_size: (version < ONE_SIZE_SINCE).then_some(size),
        graph_driver: graph_driver(),
        root_fs: api::RootFs {
            kind: "layers".to_owned(),
            layers: image
                .layers
                .iter()
                .map(|layer| layer.diff.to_string())
                .collect(),
        },
        metadata: api::ImageMetadata {
            last_tag_time: when::rfc3339(image.tagged_at),
        },
    })
}

/// nacre stands where docker names its storage driver.
pub(crate) fn graph_driver() -> api::GraphDriver {
    api::GraphDriver {
        data: None,
        name: "nacre".to_owned(),
    }
}

/// One shape of the same fields as another: both follow docker's names.
pub(crate) fn reshape<T: DeserializeOwned>(value: &impl Serialize) -> Result<T, Error> {
    let fail = |error| Error::broken(format!("cannot translate a configuration: {error}"));
    serde_json::from_value(serde_json::to_value(value).map_err(fail)?).map_err(fail)
}

pub(crate) async fn history(call: Call, name: String) -> Outcome {
    let steps = call.work(move |engine| engine.history(&name)).await?;
    let item = |step: &ImageStep| api::HistoryItem {
        comment: step.comment.clone(),
        created: step.created,
        created_by: step.created_by.clone(),
        id: step
            .image
            .map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
        size: signed(step.bytes),
        tags: (!step.tags.is_empty()).then(|| step.tags.clone()),
    };
    answer::json(&steps.iter().map(item).collect::<Vec<_>>())
}

pub(crate) async fn tag(call: Call, name: String) -> Outcome {
    let (repository, tag) = (
        call.params.text("repo").to_owned(),
        call.params.text("tag").to_owned(),
    );
    call.work(move |engine| engine.tag(&name, &repository, &tag))
        .await?;
    Ok(answer::status(StatusCode::CREATED))
}

pub(crate) async fn remove(call: Call, name: String) -> Outcome {
    let options = RemoveOptions {
        force: call.params.flag("force", false),
        keep_parents: call.params.flag("noprune", false),
    };
    let steps = call
        .work(move |engine| engine.remove_image(&name, options))
        .await?;
    answer::json(&steps.iter().map(deleted).collect::<Vec<_>>())
}

fn deleted(step: &crate::engine::RemovalStep) -> api::ImageDeleteItem {
    match step {
        crate::engine::RemovalStep::Untagged(name) => api::ImageDeleteItem {
            untagged: Some(name.clone()),
            deleted: None,
        },
        crate::engine::RemovalStep::Deleted(digest) => api::ImageDeleteItem {
            untagged: None,
            deleted: Some(digest.clone()),
        },
    }
}

pub(crate) async fn prune(call: Call) -> Outcome {
    let filters: Filters = call.params.filters()?;
    let pruned = call
        .work(move |engine| engine.prune_images(&filters))
        .await?;
    let steps: Vec<api::ImageDeleteItem> = pruned.steps.iter().map(deleted).collect();
    answer::json(&api::ImagesPruneResponse {
        images_deleted: (!steps.is_empty()).then_some(steps),
        space_reclaimed: pruned.bytes,
    })
}
