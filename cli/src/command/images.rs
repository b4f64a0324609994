//! `images`, `image ls`.

use crate::api::ImageSummary;
use crate::args::values::{Filter, filter, filters_json};
use crate::client::Route;
use crate::draw::listing::{Fields, Format, Listing};
use crate::draw::{age, err, short_id, size};
use crate::error::Result;
use crate::format::Value;
use crate::session::Session;

/// The flags of `images`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] [REPOSITORY[:TAG]]",
    after_help = "Examples:
  nacre images
  nacre images -f dangling=true -q            the IDs of images without a name
  nacre images --format '{{.Repository}}:{{.Tag}} {{.Size}}'"
)]
pub(crate) struct Args {
    /// Also show images that only other images are made of
    #[arg(short, long)]
    all: bool,

    /// Show digests
    #[arg(long)]
    digests: bool,

    /// Show only what matches: dangling=, label=, before=, since=, until=, reference=
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    filters: Vec<Filter>,

    /// Print by a Go template, or "table TEMPLATE", or "json"
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Print whole IDs
    #[arg(long)]
    no_trunc: bool,

    /// Print only IDs
    #[arg(short, long)]
    quiet: bool,

    #[arg(hide = true)]
    repository: Option<String>,
}

/// What is taken for a sub-command when no image is called so.
const SUBCOMMANDS: [&str; 12] = [
    "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save",
    "tag",
];

/// By which name the command was called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Called {
    Images,
    ImageLs,
}

/// `nacre images ls` lists the images that are called "ls"; seldom is that
/// what was meant.
fn explain_misspelling(word: &str) {
    if SUBCOMMANDS.contains(&word) {
        err(&format!(
            "\nNo images found matching \"{word}\": did you mean \"nacre image {word}\"?\n"
        ));
    }
}

/// Lists images.
pub(crate) async fn run(session: &Session, args: Args, called: Called) -> Result<()> {
    let mut filters = args.filters;
    filters.extend(args.repository.clone().map(|value| Filter {
        key: "reference".to_owned(),
        value,
    }));
    let route = Route::docker(&["images", "json"])
        .flag("all", args.all)
        .maybe("filters", filters_json(&filters).as_deref());
    let images: Vec<ImageSummary> = session.client.get(route).await?;
    let listing = listing(args.digests);
    // docker's -q gives way to a format of the user's own.
    let format = listing.format(args.format.as_deref(), args.quiet);
    let with_digests = args.digests
        || matches!(&format, Format::Lines(source) | Format::Table(source) if source.contains(".Digest"));
    let now = age::now();
    let rows = images
        .iter()
        .flat_map(|image| rows(image, with_digests, args.no_trunc, now))
        .collect();
    listing.print(&format, rows)?;
    if let Some(word) = &args.repository
        && images.is_empty()
        && called == Called::Images
    {
        explain_misspelling(word);
    }
    Ok(())
}

fn listing(digests: bool) -> Listing {
    let digest = if digests { "{{.Digest}}\t" } else { "" };
    Listing {
        type_name: "*formatter.imageContext",
        headings: &[
            ("ID", "IMAGE ID"),
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("Digest", "DIGEST"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("Size", "SIZE"),
            ("Containers", "CONTAINERS"),
            ("VirtualSize", "SIZE"),
            ("SharedSize", "SHARED SIZE"),
            ("UniqueSize", "UNIQUE SIZE"),
        ],
        table: format!(
            "{{{{.Repository}}}}\t{{{{.Tag}}}}\t{digest}{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}"
        ),
        quiet: "{{.ID}}",
        raw: Some(
            "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
        ),
    }
}

/// What a row is called: repository, tag, digest.
type Name = (String, String, String);

const NONE: &str = "<none>";

/// The names of an image, by repository: each tag is a row, a digest is one
/// only where no tag of its repository stands beside it.
fn names(image: &ImageSummary, with_digests: bool) -> Vec<Name> {
    let mut tags: Vec<(&str, &str)> = image
        .repo_tags
        .iter()
        .filter_map(|name| split(name, ':'))
        .filter(|(_, tag)| *tag != NONE)
        .collect();
    tags.sort_unstable();
    let mut digests: Vec<(&str, &str)> = image
        .repo_digests
        .iter()
        .filter_map(|name| name.split_once('@'))
        .filter(|(_, digest)| *digest != NONE)
        .collect();
    digests.sort_unstable();
    let mut names = Vec::new();
    for (repository, tag) in &tags {
        let own: Vec<&str> = digests
            .iter()
            .filter(|(of, _)| of == repository)
            .map(|(_, digest)| *digest)
            .collect();
        if with_digests && !own.is_empty() {
            names.extend(own.iter().map(|digest| name(repository, tag, digest)));
        } else {
            names.push(name(repository, tag, NONE));
        }
    }
    for (repository, digest) in &digests {
        if !tags.iter().any(|(of, _)| of == repository) {
            names.push(name(repository, NONE, digest));
        }
    }
    if names.is_empty() {
        names.push(name(NONE, NONE, NONE));
    }
    names
}

fn name(repository: &str, tag: &str, digest: &str) -> Name {
    (repository.to_owned(), tag.to_owned(), digest.to_owned())
}

/// The last colon before which no slash follows parts name and tag.
fn split(name: &str, at: char) -> Option<(&str, &str)> {
    name.rsplit_once(at).filter(|(_, tag)| !tag.contains('/'))
}

pub(crate) fn id(id: &str, whole: bool) -> String {
    if whole { id.to_owned() } else { short_id(id) }
}

fn rows(image: &ImageSummary, with_digests: bool, whole: bool, now: i64) -> Vec<Fields> {
    let known = |bytes: i64| {
        if bytes < 0 {
            "N/A".to_owned()
        } else {
            size::human4(bytes)
        }
    };
    let unique = if image.shared_size < 0 {
        "N/A".to_owned()
    } else {
        size::human4(image.size.saturating_sub(image.shared_size))
    };
    let containers = if image.containers < 0 {
        "N/A".to_owned()
    } else {
        image.containers.to_string()
    };
    names(image, with_digests)
        .into_iter()
        .map(|(repository, tag, digest)| {
            vec![
                ("ID", Value::from(id(&image.id, whole))),
                ("Repository", Value::from(repository)),
                ("Tag", Value::from(tag)),
                ("Digest", Value::from(digest)),
                ("CreatedSince", Value::from(age::ago(image.created, now))),
                ("CreatedAt", Value::from(age::local(image.created))),
                ("Size", Value::from(size::human(image.size))),
                ("Containers", Value::from(containers.as_str())),
                ("VirtualSize", Value::from(size::human4(image.size))),
                ("SharedSize", Value::from(known(image.shared_size))),
                ("UniqueSize", Value::from(unique.as_str())),
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], digests: &[&str]) -> ImageSummary {
        ImageSummary {
            repo_tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            repo_digests: digests.iter().map(|t| (*t).to_owned()).collect(),
            ..ImageSummary::default()
        }
    }

    #[test]
    fn each_tag_is_a_row_and_a_digest_only_where_no_tag_is() {
        let both = image(&["h:5000/a:2", "a:1"], &["a@sha256:1", "b@sha256:2"]);
        assert_eq!(
            names(&both, false),
            [
                name("a", "1", NONE),
                name("h:5000/a", "2", NONE),
                name("b", NONE, "sha256:2"),
            ]
        );
        assert_eq!(
            names(&both, true).first(),
            Some(&name("a", "1", "sha256:1"))
        );
    }

    #[test]
    fn an_image_without_names_is_one_row() {
        assert_eq!(names(&image(&[], &[]), true), [name(NONE, NONE, NONE)]);
        assert_eq!(
            names(&image(&["<none>:<none>"], &["<none>@<none>"]), true),
            [name(NONE, NONE, NONE)]
        );
    }
}
