//! `ps`, `container ls`.

use std::rc::Rc;

use crate::api::{ContainerSummary, StringMap};
use crate::args::values::{Filter, filter, filters_json, int};
use crate::client::Route;
use crate::draw::go_quote::quote;
use crate::draw::listing::{Fields, Format, Listing};
use crate::draw::ports::ports;
use crate::draw::{age, ellipsis, err, short_id, size};
use crate::error::{Error, Result};
use crate::format::Value;
use crate::session::Session;

/// How much of a command is shown.
const COMMAND_COLUMNS: usize = 20;
/// How much of a mount's source is shown.
const MOUNT_COLUMNS: usize = 15;

/// The flags of `ps`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "Examples:
  nacre ps -a                                 also those that ended
  nacre ps -aq -f status=exited               the IDs of those that ended
  nacre ps --format 'table {{.Names}}\\t{{.Status}}'"
)]
pub(crate) struct Args {
    /// Show all containers, not only running ones
    #[arg(short, long)]
    all: bool,

    /// Show only what matches: id=, name=, label=, status=, exited=, ancestor=, before=, since=
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    filters: Vec<Filter>,

    /// Print by a Go template, or "table TEMPLATE", or "json"
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Show the N last created containers, whatever their state
    #[arg(short = 'n', long, value_name = "N", value_parser = int, allow_negative_numbers = true)]
    last: Option<i64>,

    /// Show the last created container, whatever its state
    #[arg(short, long)]
    latest: bool,

    /// Print whole IDs and commands
    #[arg(long)]
    no_trunc: bool,

    /// Print only IDs
    #[arg(short, long)]
    quiet: bool,

    /// Show how much each container wrote
    #[arg(short, long)]
    size: bool,
}

/// Lists containers.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let listing = listing(args.size);
    // docker's -q wins over a format here, unlike in images.
    let format = if args.quiet {
        if args.format.is_some() {
            err("WARNING: Ignoring custom format, because both --format and --quiet are set.\n");
        }
        listing.format(None, true)
    } else {
        listing.format(args.format.as_deref(), false)
    };
    let wants_size = args.size
        || matches!(&format, Format::Lines(source) | Format::Table(source) if source.contains(".Size"));
    let last = if args.latest {
        Some(1)
    } else {
        args.last.filter(|last| *last > 0)
    };
    let route = Route::docker(&["containers", "json"])
        .flag("all", args.all)
        .maybe("limit", last.map(|last| last.to_string()).as_deref())
        .flag("size", wants_size)
        .maybe("filters", filters_json(&args.filters).as_deref());
    let containers: Vec<ContainerSummary> = session.client.get(route).await?;
    let now = age::now();
    let rows = containers
        .iter()
        .map(|container| row(container, args.no_trunc, now))
        .collect();
    listing.print(&format, rows).map_err(|error| match error {
        // docker runs the template once beforehand here, and says it so.
        Error::Template(error) if !error.is_syntax() => {
            Error::said(format!("failed to execute template: {error}"))
        }
        other => other,
    })
}

fn listing(with_size: bool) -> Listing {
    let size = if with_size { "\t{{.Size}}" } else { "" };
    Listing {
        type_name: "*formatter.ContainerContext",
        headings: &[
            ("ID", "CONTAINER ID"),
            ("Names", "NAMES"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("CreatedAt", "CREATED AT"),
            ("RunningFor", "CREATED"),
            ("Platform", "PLATFORM"),
            ("Ports", "PORTS"),
            ("State", "STATE"),
            ("Status", "STATUS"),
            ("Size", "SIZE"),
            ("Labels", "LABELS"),
            ("Mounts", "MOUNTS"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Networks", "NETWORKS"),
        ],
        table: format!(
            "{{{{.ID}}}}\t{{{{.Image}}}}\t{{{{.Command}}}}\t{{{{.RunningFor}}}}\t{{{{.Status}}}}\t{{{{.Ports}}}}\t{{{{.Names}}}}{size}"
        ),
        quiet: "{{.ID}}",
        raw: Some(
            "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
        ),
    }
}

fn row(container: &ContainerSummary, whole: bool, now: i64) -> Fields {
    let id = if whole {
        container.id.clone()
    } else {
        short_id(&container.id)
    };
    let command = if whole {
        quote(&container.command)
    } else {
        quote(&ellipsis(&container.command, COMMAND_COLUMNS))
    };
    let labels = container.labels.clone();
    vec![
        ("ID", Value::from(id)),
        ("Names", Value::from(names(&container.names, whole))),
        ("Image", Value::from(image(container, whole))),
        ("Command", Value::from(command)),
        ("CreatedAt", Value::from(age::local(container.created))),
        ("RunningFor", Value::from(age::ago(container.created, now))),
        ("Platform", Value::Nil),
        ("Ports", Value::from(ports(&container.ports))),
        ("State", Value::from(container.state.as_str())),
        ("Status", Value::from(container.status.as_str())),
        ("Size", Value::from(sizes(container))),
        ("Labels", Value::from(joined(&container.labels))),
        (
            "Label",
            Value::Method(Rc::new(move |arguments| match arguments {
                [Value::Str(name)] => Ok(Value::from(
                    labels.get(name.as_ref()).cloned().unwrap_or_default(),
                )),
                other => Err(format!(
                    "wrong number of args for Label: want 1 got {}",
                    other.len()
                )),
            })),
        ),
        ("Mounts", Value::from(mounts(container, whole))),
        ("LocalVolumes", Value::from(local_volumes(container))),
        ("Networks", Value::from(networks(container))),
    ]
}

/// The names without their slashes; names that links gave are left out.
fn names(names: &[String], whole: bool) -> String {
    let names: Vec<&str> = names
        .iter()
        .map(|name| name.strip_prefix('/').unwrap_or(name))
        .filter(|name| whole || !name.contains('/'))
        .collect();
    names.join(",")
}

fn image(container: &ContainerSummary, whole: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".to_owned();
    }
    if whole {
        return container.image.clone();
    }
    if container.image == container.image_id {
        return short_id(&container.image);
    }
    // A name that was pinned by digest is shown without it.
    match container.image.split_once('@') {
        Some((name, _)) if !name.is_empty() => name.to_owned(),
        _ => container.image.clone(),
    }
}

fn sizes(container: &ContainerSummary) -> String {
    let own = size::human(container.size_rw.unwrap_or(0));
    match container.size_root_fs {
        Some(whole) if whole > 0 => format!("{own} (virtual {})", size::human(whole)),
        _ => own,
    }
}

fn joined(labels: &StringMap) -> String {
    let labels: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    labels.join(",")
}

fn mounts(container: &ContainerSummary, whole: bool) -> String {
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| {
            let name = if mount.name.is_empty() {
                &mount.source
            } else {
                &mount.name
            };
            if whole {
                name.clone()
            } else {
                ellipsis(name, MOUNT_COLUMNS)
            }
        })
        .collect();
    mounts.join(",")
}

fn local_volumes(container: &ContainerSummary) -> String {
    container
        .mounts
        .iter()
        .filter(|mount| mount.driver == "local")
        .count()
        .to_string()
}

fn networks(container: &ContainerSummary) -> String {
    match &container.network_settings {
        Some(settings) => {
            let names: Vec<&str> = settings.networks.keys().map(String::as_str).collect();
            names.join(",")
        }
        None => String::new(),
    }
}
