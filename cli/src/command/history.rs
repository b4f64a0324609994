//! `history`: the steps that an image was made in.

use crate::api::HistoryItem;
use crate::args::values::{boolean, platform_json};
use crate::client::Route;
use crate::draw::listing::{Fields, Listing};
use crate::draw::{age, ellipsis, short_id, size};
use crate::error::Result;
use crate::format::Value;
use crate::session::Session;

/// How much of a step's command is shown.
const COMMAND_COLUMNS: usize = 45;

/// The flags of `history`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] IMAGE",
    after_help = "Examples:
  nacre history site:v2
  nacre history --no-trunc --format '{{.Size}} {{.CreatedBy}}' debian"
)]
pub(crate) struct Args {
    /// Print by a Go template, or "table TEMPLATE", or "json"
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Print sizes and times for people [default: true]
    #[arg(
        short = 'H', long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", hide_default_value = true,
        value_parser = boolean
    )]
    human: bool,

    /// Print whole IDs and commands
    #[arg(long)]
    no_trunc: bool,

    /// Choose from an image for several platforms: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Print only IDs
    #[arg(short, long)]
    quiet: bool,

    #[arg(required = true, hide = true)]
    image: String,
}

/// Shows the history.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let platform = args.platform.as_deref().map(platform_json).transpose()?;
    let route =
        Route::docker(&["images", &args.image, "history"]).maybe("platform", platform.as_deref());
    let items: Vec<HistoryItem> = session.client.get(route).await?;
    let listing = listing(args.human);
    let format = listing.format(args.format.as_deref(), args.quiet);
    let now = age::now();
    let rows = items
        .iter()
        .map(|item| row(item, args.human, args.no_trunc, now))
        .collect();
    listing.print(&format, rows)
}

fn listing(human: bool) -> Listing {
    let created = if human {
        "{{.CreatedSince}}"
    } else {
        "{{.CreatedAt}}"
    };
    Listing {
        type_name: "*image.historyContext",
        headings: &[
            ("ID", "IMAGE"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("CreatedBy", "CREATED BY"),
            ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ],
        table: format!(
            "{{{{.ID}}}}\t{created}\t{{{{.CreatedBy}}}}\t{{{{.Size}}}}\t{{{{.Comment}}}}"
        ),
        quiet: "{{.ID}}",
        raw: None,
    }
}

fn row(item: &HistoryItem, human: bool, whole: bool, now: i64) -> Fields {
    let id = if whole {
        item.id.clone()
    } else {
        short_id(&item.id)
    };
    let created_by = item.created_by.replace('\t', " ");
    let created_by = if whole {
        created_by
    } else {
        ellipsis(&created_by, COMMAND_COLUMNS)
    };
    let size = if human {
        size::human(item.size)
    } else {
        item.size.to_string()
    };
    vec![
        ("ID", Value::from(id)),
        (
            "CreatedSince",
            Value::from(age::ago_or_not_available(item.created, now)),
        ),
        ("CreatedAt", Value::from(age::rfc3339(item.created))),
        ("CreatedBy", Value::from(created_by)),
        ("Size", Value::from(size)),
        ("Comment", Value::from(item.comment.as_str())),
    ]
}
