//! `diff`: what changed in a container or a mount.

use crate::api::{Change, KIND_ADDED, KIND_CHANGED, KIND_DELETED};
use crate::client::Route;
use crate::draw::listing::Listing;
use crate::error::Result;
use crate::format::Value;
use crate::session::Session;

/// The flags of `diff`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER|MOUNT",
    after_help = "Examples:
  nacre diff web                              A is added, C is changed, D is deleted
  nacre diff --format '{{.Path}}' work"
)]
pub(crate) struct Args {
    /// Print by a Go template (.Type, .Path), or "table TEMPLATE", or "json"
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    #[arg(required = true, hide = true)]
    name: String,
}

/// Lists the changes, sorted by path.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let route = Route::docker(&["containers", &args.name, "changes"]);
    let changes: Option<Vec<Change>> = session.client.get(route).await?;
    let mut changes = changes.unwrap_or_default();
    // A parent is a prefix of what is in it, so it comes first.
    changes.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    let listing = Listing {
        type_name: "*formatter.diffContext",
        headings: &[("Type", "CHANGE TYPE"), ("Path", "PATH")],
        table: "{{.Type}}\t{{.Path}}".to_owned(),
        quiet: "{{.Path}}",
        raw: None,
    };
    let format = args.format.as_deref().unwrap_or("{{.Type}} {{.Path}}");
    let format = listing.format(Some(format), false);
    let rows = changes
        .iter()
        .map(|change| {
            vec![
                ("Type", Value::from(letter(change.kind))),
                ("Path", Value::from(change.path.as_str())),
            ]
        })
        .collect();
    listing.print(&format, rows)
}

fn letter(kind: u8) -> &'static str {
    match kind {
        KIND_CHANGED => "C",
        KIND_ADDED => "A",
        KIND_DELETED => "D",
        _ => "?",
    }
}
