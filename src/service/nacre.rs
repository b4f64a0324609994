//! nacre's own routes: mounts, the check, the service itself.

use std::path::Path;

use axum::http::StatusCode;
use nacre_cli::api;
use nacre_fs::flags::MountFlags;

use super::answer::{self, Outcome};
use super::call::Call;
use super::{route, transfers};
use crate::engine::{Error, MountRequest, Mounted, Unmount, View};

pub(crate) async fn mount(mut call: Call) -> Outcome {
    let asked: api::MountRequest = call.json().await?;
    let request = MountRequest {
        image: asked.image,
        target: asked
            .target
            .as_deref()
            .map(transfers::absolute)
            .transpose()?,
        name: asked.name.filter(|name| !name.is_empty()),
        container: asked.container.filter(|name| !name.is_empty()),
        view: match (asked.read_only, asked.passthrough) {
            (false, false) => View::Writable,
            (true, false) => View::ReadOnly,
            (true, true) => View::ReadOnlyPassthrough,
            (false, true) => {
                return Err(Error::invalid(
                    "passthrough is for read-only mounts: one that can be written has it wherever that is safe",
                ));
            }
        },
        flags: flags(&asked.options)?,
        peer: call.peer,
    };
    match &request.container {
        Some(_) if !request.image.is_empty() || request.name.is_some() => {
            return Err(Error::invalid("mount either a container or an image"));
        }
        None if request.image.is_empty() && request.name.is_none() => {
            return Err(Error::invalid("no image to mount"));
        }
        _ => {}
    }
    let mounted = call.work(move |engine| engine.mount(&request)).await?;
    answer::json_with(StatusCode::CREATED, &shown(&mounted))
}

fn flags(options: &[String]) -> Result<MountFlags, Error> {
    options
        .iter()
        .try_fold(MountFlags::default(), |flags, option| {
            let unknown = || Error::invalid(format!("unknown mount option \"{option}\""));
            flags.with(option).ok_or_else(unknown)
        })
}

pub(crate) async fn remount(mut call: Call) -> Outcome {
    let asked: api::RemountRequest = call.json().await?;
    let target = transfers::absolute(&asked.target)?;
    let flags = flags(&asked.options)?;
    call.work(move |engine| engine.remount(Path::new(&target), flags))
        .await?;
    route::done()
}

fn shown(mounted: &Mounted) -> api::MountInfo {
    api::MountInfo {
        name: mounted.name.clone(),
        target: mounted
            .target
            .as_ref()
            .map(|target| target.display().to_string())
            .unwrap_or_default(),
        image: mounted.image.clone(),
        image_id: mounted.image_id.to_string(),
        read_only: mounted.read_only,
    }
}

pub(crate) async fn mounts(call: Call) -> Outcome {
    let mounts = call.work(|engine| Ok(engine.mounts())).await?;
    answer::json(&mounts.iter().map(shown).collect::<Vec<_>>())
}

pub(crate) async fn unmount(call: Call) -> Outcome {
    let what = match (call.params.some("target"), call.params.some("name")) {
        (Some(target), None) => Unmount::Target(transfers::absolute(target)?),
        (None, Some(name)) => Unmount::Name(name.to_owned()),
        _ => {
            return Err(Error::invalid(
                "give either the target or the name of a mount",
            ));
        }
    };
    let lazy = call.params.flag("lazy", false);
    call.work(move |engine| engine.unmount(&what, lazy)).await?;
    route::done()
}

pub(crate) async fn remove_upper(call: Call, name: String) -> Outcome {
    call.work(move |engine| engine.remove_kept(&name)).await?;
    route::done()
}

pub(crate) async fn check(call: Call) -> Outcome {
    let report = call.work(|engine| engine.check()).await?;
    let count = |(what, count): &(&'static str, u64)| api::CheckCount {
        what: (*what).to_owned(),
        count: *count,
    };
    answer::json(&api::CheckReport {
        checked: report.checked.iter().map(count).collect(),
        faults: report.faults,
    })
}

/// Gives up the archives as they were received.
pub(crate) async fn reclaim(call: Call) -> Outcome {
    let given_up = call.work(|engine| engine.reclaim_archives()).await?;
    answer::json(&api::Reclaimed {
        archives: given_up.archives,
        space_reclaimed: given_up.bytes,
    })
}

/// Ends the service, unless something is in use.
pub(crate) async fn shutdown(call: Call) -> Outcome {
    let in_use = call.work(|engine| Ok(engine.in_use())).await?;
    if in_use.is_empty() {
        call.about.stop.notify_one();
        return Ok(answer::status(StatusCode::OK));
    }
    let message = format!("the service is in use: {}", in_use.join(", "));
    answer::json_with(
        StatusCode::CONFLICT,
        &api::ShutdownRefusal { message, in_use },
    )
}

pub(crate) fn info(call: &Call) -> Outcome {
    answer::json(&api::NacreInfo {
        version: super::system::VERSION.to_owned(),
        root: call.about.root.display().to_string(),
        pid: i64::from(std::process::id()),
        format_version: call.engine.format_version(),
        idle_seconds_max: call.about.idle_seconds_max,
        settings: settings(&call.about),
    })
}

/// What is in force beside what docker's own `info` has, by the keys of the settings file.
fn settings(about: &super::About) -> Vec<[String; 2]> {
    let registries = &about.registries;
    let file = about.settings_file.as_ref();
    let file = file.map_or_else(|| "none".to_owned(), |file| file.display().to_string());
    let dirs = registries.certs_dirs.iter();
    let dirs: Vec<String> = dirs.map(|dir| dir.display().to_string()).collect();
    let mut all = vec![
        ("settings-file", file),
        ("certs-dirs", dirs.join(", ")),
        ("connect-seconds", registries.connect.as_secs().to_string()),
        ("stall-seconds", registries.stall.as_secs().to_string()),
        ("request-attempts", registries.request_attempts.to_string()),
        ("blob-attempts", registries.blob_attempts.to_string()),
        ("layers-at-once", registries.layers_at_once.to_string()),
        ("keep-archives", about.keep_archives.to_string()),
        ("cache-bytes", about.cache_bytes.to_string()),
    ];
    let mirrors = registries.mirrors.iter();
    all.extend(mirrors.map(|mirror| ("mirror", mirror.shown())));
    let limits = about.limits.iter();
    all.extend(limits.map(|(name, number)| (*name, number.to_string())));
    all.into_iter()
        .map(|(name, value)| [name.to_owned(), value])
        .collect()
}
