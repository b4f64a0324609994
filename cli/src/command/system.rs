//! `info`, `version`, `system check`, `system df`, `system reclaim`: the store and the service.

use serde_json::{Value as Json, json};

use crate::api::{API_VERSION, CheckReport, DiskUsage, Info, NacreInfo, Reclaimed, Version};
use crate::client::{Call, Route};
use crate::command::image_edit::confirmed;
use crate::draw::listing::Listing;
use crate::draw::progress::spinner;
use crate::draw::{out, size};
use crate::error::{Error, Result};
use crate::format::{Functions, MissingKey, Template, Value};
use crate::session::Session;

/// The flags of `info`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "Examples:
  nacre info
  nacre info --format '{{.DockerRootDir}}'"
)]
pub(crate) struct InfoArgs {
    /// Print by a Go template, or "json"
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Shows what the service is and has.
pub(crate) async fn info(session: &Session, args: InfoArgs) -> Result<()> {
    let json: Json = session.client.get(Route::docker(&["info"])).await?;
    if let Some(format) = args.format.as_deref() {
        return print_by(format, &json);
    }
    let info: Info = serde_json::from_value(json).map_err(|source| Error::Answer {
        what: "info".to_owned(),
        source,
    })?;
    let own: Option<NacreInfo> = session.client.get(Route::nacre(&["info"])).await.ok();
    let mut lines = vec![
        ("Store", info.docker_root_dir.clone()),
        ("Socket", session.settings.socket.display().to_string()),
    ];
    if let Some(own) = &own {
        lines.push(("Store format", own.format_version.to_string()));
        lines.push(("Service", format!("{} (process {})", own.version, own.pid)));
        let idle = match own.idle_seconds_max {
            Some(seconds) => format!("ends after {seconds} seconds"),
            None => "runs on".to_owned(),
        };
        lines.push(("When idle", idle));
    }
    lines.extend([
        ("Images", info.images.to_string()),
        (
            "Containers",
            format!(
                "{} ({} running, {} stopped)",
                info.containers, info.containers_running, info.containers_stopped
            ),
        ),
        ("Storage driver", info.driver.clone()),
        ("Kernel", info.kernel_version.clone()),
        ("System", info.operating_system.clone()),
        ("Architecture", info.architecture.clone()),
        ("CPUs", info.ncpu.to_string()),
        ("Memory", size::human4(info.mem_total)),
        (
            "Cgroups",
            format!("{} (version {})", info.cgroup_driver, info.cgroup_version),
        ),
        ("Security", info.security_options.join(", ")),
    ]);
    out(&described(&lines))?;
    out(&registries(&info, own.as_ref()))?;
    for [name, value] in &info.driver_status {
        out(&described(&[(name.as_str(), value.clone())]))?;
    }
    for warning in info.warnings.unwrap_or_default() {
        crate::draw::err(&format!("WARNING: {warning}\n"));
    }
    Ok(())
}

/// What is in force for registries, under docker's headings, then nacre's own settings.
fn registries(info: &Info, own: Option<&NacreInfo>) -> String {
    let mut text = described(&[
        ("HTTP Proxy", info.http_proxy.clone()),
        ("HTTPS Proxy", info.https_proxy.clone()),
        ("No Proxy", info.no_proxy.clone()),
    ]);
    let mut listed = |heading: &str, values: Vec<String>| {
        if !values.is_empty() {
            text.push_str(&format!("{heading}:\n"));
            values
                .iter()
                .for_each(|value| text.push_str(&format!("  {value}\n")));
        }
    };
    let config = &info.registry_config;
    let insecure = config.index_configs.values().filter(|index| !index.secure);
    let insecure = insecure.map(|index| index.name.clone());
    let insecure = insecure.chain(config.insecure_registry_cidrs.iter().cloned());
    listed("Insecure Registries", insecure.collect());
    let settings = own.map(|own| own.settings.as_slice()).unwrap_or_default();
    let (mirrors, settings): (Vec<_>, Vec<_>) =
        settings.iter().partition(|[name, _]| name == "mirror");
    let mirrors = mirrors.into_iter().map(|[_, value]| value.clone());
    listed("Registry Mirrors", mirrors.collect());
    let settings = settings.into_iter();
    let settings = settings.map(|[name, value]| format!("{name}: {value}"));
    listed("Settings", settings.collect());
    text
}

/// Where values stand.
const LABEL_COLUMNS: usize = 16;

fn described(lines: &[(&str, String)]) -> String {
    lines
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(label, value)| format!("{:<LABEL_COLUMNS$} {value}\n", format!("{label}:")))
        .collect()
}

/// The flags of `version`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "Examples:
  nacre version
  nacre version --format '{{.Server.Version}}'"
)]
pub(crate) struct VersionArgs {
    /// Print by a Go template, or "json"
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Shows the versions; of the client also where no service answers.
pub(crate) async fn version(session: &Session, args: VersionArgs) -> Result<()> {
    let own = env!("CARGO_PKG_VERSION");
    let answer = session
        .client
        .get::<Json>(Route::docker(&["version"]))
        .await;
    let client = json!({
        "Version": own,
        "ApiVersion": API_VERSION,
        "Os": std::env::consts::OS,
        "Arch": architecture(),
    });
    let (server, error) = match answer {
        Ok(server) => (server, None),
        Err(error) => (Json::Null, Some(error)),
    };
    if let Some(format) = args.format.as_deref() {
        print_by(format, &json!({"Client": client, "Server": server}))?;
    } else {
        out(&described(&[
            ("Client", own.to_owned()),
            ("API version", API_VERSION.to_owned()),
            (
                "OS/Arch",
                format!("{}/{}", std::env::consts::OS, architecture()),
            ),
        ]))?;
        if error.is_none() {
            let server: Version =
                serde_json::from_value(server).map_err(|source| Error::Answer {
                    what: "version".to_owned(),
                    source,
                })?;
            let api = format!(
                "{} (minimum {})",
                server.api_version, server.min_api_version
            );
            out(&described(&[
                ("Service", server.version),
                ("API version", api),
                ("OS/Arch", format!("{}/{}", server.os, server.arch)),
                ("Kernel", server.kernel_version),
            ]))?;
        }
    }
    match error {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// Go's names of architectures, which images use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn print_by(format: &str, json: &Json) -> Result<()> {
    let source = if format == "json" {
        "{{json .}}"
    } else {
        format
    };
    let template = Template::parse(source).map_err(Error::Template)?;
    let mut text = String::new();
    template
        .run(
            &Value::from(json),
            MissingKey::Error,
            Functions::Real,
            &mut text,
        )
        .map_err(Error::Template)?;
    text.push('\n');
    out(&text)
}

/// The flags of `system check`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "Examples:
  nacre system check

It reads every byte that is stored, and hashes it again.
The exit code is 0 if the store is sound and 1 if it is not."
)]
pub(crate) struct CheckArgs {
    /// Print only what is wrong
    #[arg(short, long)]
    quiet: bool,
}

/// Checks the store.
pub(crate) async fn check(session: &Session, args: CheckArgs) -> Result<()> {
    let wheel = spinner("checking the store");
    let report = session
        .client
        .get::<CheckReport>(Route::nacre(&["check"]))
        .await;
    wheel.finish_and_clear();
    let report = report?;
    if !args.quiet {
        for item in &report.checked {
            out(&format!("checked {} {}\n", item.count, item.what))?;
        }
    }
    if report.faults.is_empty() {
        return if args.quiet {
            Ok(())
        } else {
            out("the store is sound\n")
        };
    }
    for fault in &report.faults {
        out(&format!("fault: {fault}\n"))?;
    }
    let count = report.faults.len();
    Err(Error::said(format!(
        "the store has {count} fault{}",
        if count == 1 { "" } else { "s" }
    )))
}

/// The flags of `system reclaim`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "Examples:
  nacre system reclaim
  nacre system reclaim -f                     without a question

Compressed layers are kept as they were received, so that images are pushed and saved with the digests that they came
with. Without them every image works as before; what is pushed is compressed anew: the same image ID and the same
files under another digest. keep-archives = false in the settings file keeps none from then on."
)]
pub(crate) struct ReclaimArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Gives up layers as received.
pub(crate) async fn reclaim(session: &Session, args: ReclaimArgs) -> Result<()> {
    let warning = "WARNING! This will remove all compressed layers as they were received. \
                   Images will be pushed and saved under other digests.";
    if !args.force && !confirmed(warning)? {
        return Ok(());
    }
    let route = Route::nacre(&["reclaim"]);
    let reclaimed: Reclaimed = session.client.json(Call::post(route)).await?;
    let bytes = i64::try_from(reclaimed.space_reclaimed).unwrap_or(i64::MAX);
    let (archives, space) = (reclaimed.archives, size::human4(bytes));
    out(&format!(
        "Removed archives: {archives}\nTotal reclaimed space: {space}\n"
    ))
}

/// The flags of `system df`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "Examples:
  nacre system df"
)]
pub(crate) struct DfArgs {
    /// Print by a Go template, or "table TEMPLATE", or "json"
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Shows what takes how much space.
pub(crate) async fn df(session: &Session, args: DfArgs) -> Result<()> {
    let usage: DiskUsage = session.client.get(Route::docker(&["system", "df"])).await?;
    let listing = Listing {
        type_name: "*formatter.diskUsageContext",
        headings: &[
            ("Type", "TYPE"),
            ("TotalCount", "TOTAL"),
            ("Active", "ACTIVE"),
            ("Size", "SIZE"),
            ("Reclaimable", "RECLAIMABLE"),
        ],
        table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}".to_owned(),
        quiet: "{{.Type}}",
        raw: None,
    };
    let format = listing.format(args.format.as_deref(), false);
    let rows = [images_of(&usage), containers_of(&usage)]
        .into_iter()
        .map(|row| {
            vec![
                ("Type", Value::from(row.kind)),
                ("TotalCount", Value::from(row.total.to_string())),
                ("Active", Value::from(row.active.to_string())),
                ("Size", Value::from(size::human4(row.size))),
                ("Reclaimable", Value::from(reclaimable(&row))),
            ]
        })
        .collect();
    listing.print(&format, rows)
}

struct Usage {
    kind: &'static str,
    total: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
}

fn images_of(usage: &DiskUsage) -> Usage {
    let used: i64 = usage
        .images
        .iter()
        .filter(|image| image.containers != 0 && image.size >= 0 && image.shared_size >= 0)
        .map(|image| image.size.saturating_sub(image.shared_size))
        .fold(0, i64::saturating_add);
    Usage {
        kind: "Images",
        total: usage.images.len(),
        active: usage.images.iter().filter(|i| i.containers > 0).count(),
        size: usage.layers_size,
        reclaimable: usage.layers_size.saturating_sub(used),
    }
}

fn containers_of(usage: &DiskUsage) -> Usage {
    let is_active = |state: &str| matches!(state, "running" | "paused" | "restarting");
    let size = |active: bool| {
        usage
            .containers
            .iter()
            .filter(|container| active || !is_active(&container.state))
            .map(|container| container.size_rw.unwrap_or(0))
            .fold(0, i64::saturating_add)
    };
    Usage {
        kind: "Containers",
        total: usage.containers.len(),
        active: usage
            .containers
            .iter()
            .filter(|container| is_active(&container.state))
            .count(),
        size: size(true),
        reclaimable: size(false),
    }
}

fn reclaimable(row: &Usage) -> String {
    let amount = size::human4(row.reclaimable);
    match row
        .reclaimable
        .checked_mul(100)
        .and_then(|n| n.checked_div(row.size))
    {
        Some(percent) => format!("{amount} ({percent}%)"),
        None => amount,
    }
}
