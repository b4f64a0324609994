//! `rmi`, `tag`, `image prune`: the names and the life of images.

use std::io::{self, BufRead};

use crate::api::{ImageDeleteItem, ImagesPruneResponse};
use crate::args::values::{Filter, filter, filters_json};
use crate::client::{Call, Route};
use crate::draw::{err, out, size};
use crate::error::{Error, Result, each};
use crate::reference::{DEFAULT_TAG, Reference};
use crate::session::Session;

/// The flags of `rmi`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] IMAGE [IMAGE...]",
    after_help = "Examples:
  nacre rmi site:v1                           takes the name away; the last name takes the image along
  nacre rmi -f 8712ca8066d7                   with all its names"
)]
pub(crate) struct RmArgs {
    /// Remove although several names or stopped containers use it
    #[arg(short, long)]
    force: bool,

    /// Keep parents that have no name
    #[arg(long)]
    no_prune: bool,

    #[arg(required = true, hide = true)]
    images: Vec<String>,
}

/// Removes images.
pub(crate) async fn rm(session: &Session, args: RmArgs) -> Result<()> {
    let removed = each(&args.images, async |image| {
        let route = Route::docker(&["images", image])
            .flag("force", args.force)
            .flag("noprune", args.no_prune);
        let items: Vec<ImageDeleteItem> = match session.client.json(Call::delete(route)).await {
            Ok(items) => items,
            Err(error) if args.force && error.is_not_found() => {
                err(&format!("{error}\n"));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        out(&removals(&items, "Untagged", "Deleted"))
    });
    removed.await
}

fn removals(items: &[ImageDeleteItem], untagged: &str, deleted: &str) -> String {
    items
        .iter()
        .flat_map(|item| {
            let untagged = item
                .untagged
                .iter()
                .map(move |n| format!("{untagged}: {n}\n"));
            let deleted = item
                .deleted
                .iter()
                .map(move |n| format!("{deleted}: {n}\n"));
            untagged.chain(deleted)
        })
        .collect()
}

/// The arguments of `tag`.
#[derive(clap::Args)]
#[command(
    override_usage = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    after_help = "Examples:
  nacre tag site:v2 127.0.0.1:5000/site:v2"
)]
pub(crate) struct TagArgs {
    #[arg(required = true, hide = true)]
    source: String,

    #[arg(required = true, hide = true)]
    target: String,
}

/// Gives an image another name.
pub(crate) async fn tag(session: &Session, args: TagArgs) -> Result<()> {
    let target = Reference::parse(&args.target).map_err(|error| {
        Error::said(format!(
            "Error parsing reference: {:?} is not a valid repository/tag: {error}",
            args.target
        ))
    })?;
    if target.digest.is_some() {
        return Err(Error::said(
            "refusing to create a tag with a digest reference",
        ));
    }
    let route = Route::docker(&["images", &args.source, "tag"])
        .with("repo", &target.full_name())
        .with("tag", target.tag.as_deref().unwrap_or(DEFAULT_TAG));
    session.client.done(Call::post(route)).await?;
    Ok(())
}

/// The flags of `image prune`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "Examples:
  nacre image prune                           images without a name
  nacre image prune -af                       all that no container uses, without a question"
)]
pub(crate) struct PruneArgs {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,

    /// Remove only what matches: until=, label=, label!=
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    filters: Vec<Filter>,

    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Removes images that nothing uses.
pub(crate) async fn prune(session: &Session, args: PruneArgs) -> Result<()> {
    let what = if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    if !args.force && !confirmed(&format!("WARNING! This will remove {what}."))? {
        return Ok(());
    }
    let mut filters = args.filters;
    filters.push(Filter {
        key: "dangling".to_owned(),
        value: (!args.all).to_string(),
    });
    let route =
        Route::docker(&["images", "prune"]).maybe("filters", filters_json(&filters).as_deref());
    let pruned: ImagesPruneResponse = session.client.json(Call::post(route)).await?;
    let items = pruned.images_deleted.unwrap_or_default();
    if !items.is_empty() {
        let lines = removals(&items, "untagged", "deleted");
        out(&format!("Deleted Images:\n{lines}\n"))?;
    }
    let bytes = i64::try_from(pruned.space_reclaimed).unwrap_or(i64::MAX);
    out(&format!("Total reclaimed space: {}\n", size::human4(bytes)))
}

/// Asks; everything but a yes is a no.
pub(super) fn confirmed(warning: &str) -> Result<bool> {
    out(&format!(
        "{warning}\nAre you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| Error::io("standard input", source))?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
