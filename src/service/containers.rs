//! The container routes that answer at once. Translates only.

use axum::http::StatusCode;
use nacre_cli::api;
use serde_json::Value;

use super::answer::{self, Outcome};
use super::call::Call;
use super::images::{graph_driver, reshape, signed};
use super::{container_filter, route};
use crate::engine::{
    ChangeKind, CommitRequest, Config, Container, Engine, Error, Phase, ShownMount, image, when,
};

/// Whether sizes are counted for a list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// They cost a walk each.
    Counted,
    /// They were not asked for.
    Skipped,
}

pub(crate) async fn list(call: Call) -> Outcome {
    let filters = call.params.filters()?;
    let limit = call
        .params
        .number::<i64>("limit")?
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|n| *n > 0);
    let all = call.params.flag("all", false)
        || limit.is_some()
        || filters.has("status")
        || filters.has("exited");
    let sizes = if call.params.flag("size", false) {
        Sizes::Counted
    } else {
        Sizes::Skipped
    };
    let rows = call
        .work(move |engine| {
            let filter = container_filter::Wanted::new(engine, &filters)?;
            let shown = |container: &Container| {
                (all || container.state.phase.is_active()) && filter.takes(engine, container)
            };
            let containers = engine.containers();
            let rows = containers
                .iter()
                .filter(|container| shown(container))
                .take(limit.unwrap_or(usize::MAX));
            rows.map(|container| summary(engine, container, sizes))
                .collect::<Result<Vec<_>, _>>()
        })
        .await?;
    answer::json(&rows)
}

/// One row of a list.
pub(crate) fn summary(
    engine: &Engine,
    container: &Container,
    sizes: Sizes,
) -> Result<api::ContainerSummary, Error> {
    let config = &container.config;
    let words = config
        .entrypoint
        .iter()
        .chain(&config.cmd)
        .flatten()
        .filter(|word| !word.is_empty());
    let command: Vec<&str> = words.map(String::as_str).collect();
    let (size_rw, size_root_fs) = match sizes {
        Sizes::Counted => {
            let own = engine.upper_bytes(container)?;
            let below = engine.image_bytes(&container.image)?;
            (Some(signed(own)), Some(signed(own.saturating_add(below))))
        }
        Sizes::Skipped => (None, None),
    };
    Ok(api::ContainerSummary {
        id: container.id.to_string(),
        names: vec![format!("/{}", container.name)],
        image: engine.image_as_shown(container),
        image_id: container.image.to_string(),
        command: command.join(" "),
        created: container.created.div_euclid(when::SECOND),
        size_rw,
        size_root_fs,
        labels: config.labels.clone().unwrap_or_default(),
        state: container.state.phase.word().to_owned(),
        status: status(container),
        host_config: api::SummaryHostConfig {
            network_mode: network_word(container).to_owned(),
        },
        network_settings: Some(api::SummaryNetworkSettings {
            networks: networks(container),
        }),
        mounts: mounts(container),
        ..api::ContainerSummary::default()
    })
}

fn network_word(container: &Container) -> &'static str {
    match container.host.network {
        crate::runtime::spec::Network::Host => "host",
        crate::runtime::spec::Network::None => "none",
    }
}

fn networks(container: &Container) -> std::collections::BTreeMap<String, api::EndpointSettings> {
    let word = network_word(container);
    let settings = api::EndpointSettings {
        network_id: word.to_owned(),
        ..api::EndpointSettings::default()
    };
    [(word.to_owned(), settings)].into()
}

fn mounts(container: &Container) -> Vec<api::MountPoint> {
    let mount = |mount: ShownMount| api::MountPoint {
        kind: mount.kind.to_owned(),
        source: mount.source,
        destination: mount.target,
        mode: if mount.writable { "" } else { "ro" }.to_owned(),
        rw: mount.writable,
        propagation: if mount.kind == "bind" { "rprivate" } else { "" }.to_owned(),
        ..api::MountPoint::default()
    };
    container.shown_mounts().into_iter().map(mount).collect()
}

/// docker's status line.
pub(crate) fn status(container: &Container) -> String {
    let ago = |time: Option<i64>| super::ages::human(when::now().saturating_sub(time.unwrap_or(0)));
    let state = &container.state;
    match state.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Running => format!("Up {}", ago(state.started)),
        Phase::Paused => format!("Up {} (Paused)", ago(state.started)),
        Phase::Exited => format!("Exited ({}) {} ago", state.exit_code, ago(state.finished)),
        Phase::Dead => "Dead".to_owned(),
    }
}

pub(crate) async fn inspect(call: Call, name: String) -> Outcome {
    let size = call.params.flag("size", false);
    let inspected = call
        .work(move |engine| {
            let container = engine.container(&name)?;
            inspected(engine, &container, size)
        })
        .await?;
    answer::json(&inspected)
}

fn inspected(
    engine: &Engine,
    container: &Container,
    size: bool,
) -> Result<api::ContainerInspect, Error> {
    let files = engine.container_files(&container.id);
    let shown = |path: std::path::PathBuf| {
        if container.state.started.is_some() {
            path.display().to_string()
        } else {
            String::new()
        }
    };
    let (path, args) = container.command();
    let execs = engine.execs_of(&container.id);
    let own = if size {
        Some(engine.upper_bytes(container)?)
    } else {
        None
    };
    let below = if size {
        engine.image_bytes(&container.image)?
    } else {
        0
    };
    let mut config: api::ContainerConfig = reshape(&container.config)?;
    config.hostname = container.hostname();
    Ok(api::ContainerInspect {
        id: container.id.to_string(),
        created: when::rfc3339(container.created),
        path,
        args,
        state: state(container),
        image: container.image.to_string(),
        resolv_conf_path: shown(files.resolv_conf()),
        hostname_path: shown(files.hostname()),
        hosts_path: shown(files.hosts()),
        log_path: shown(files.log()),
        name: format!("/{}", container.name),
        driver: "nacre".to_owned(),
        platform: "linux".to_owned(),
        exec_ids: (!execs.is_empty()).then_some(execs),
        host_config: reshape(&container.host_config)?,
        graph_driver: graph_driver(),
        size_rw: own.map(signed),
        size_root_fs: own.map(|own| signed(own.saturating_add(below))),
        mounts: mounts(container),
        config,
        network_settings: api::NetworkSettings {
            networks: networks(container),
            ..api::NetworkSettings::default()
        },
        ..api::ContainerInspect::default()
    })
}

fn state(container: &Container) -> api::ContainerState {
    let state = &container.state;
    let time = |time: Option<i64>| time.map_or_else(|| when::NEVER.to_owned(), when::rfc3339);
    api::ContainerState {
        status: state.phase.word().to_owned(),
        running: state.phase.is_active(),
        paused: state.phase == Phase::Paused,
        oom_killed: state.oom_killed,
        dead: state.phase == Phase::Dead,
        pid: state.pid.map_or(0, i64::from),
        exit_code: i64::from(state.exit_code),
        error: state.error.clone(),
        started_at: time(state.started),
        finished_at: time(state.finished),
        ..api::ContainerState::default()
    }
}

/// The verbs that answer with nothing but a status.
pub(crate) async fn act(call: Call, name: String, verb: &str) -> Outcome {
    let signal = call.params.some("signal").map(str::to_owned);
    let seconds = call.params.number::<i64>("t")?;
    let new_name = call.params.text("name").to_owned();
    let verb = verb.to_owned();
    call.work(move |engine| match verb.as_str() {
        "start" => engine.start_container(&name),
        "stop" => engine.stop_container(&name, signal.as_deref(), seconds),
        "restart" => engine.restart_container(&name, signal.as_deref(), seconds),
        "kill" => engine.kill_container(&name, signal.as_deref()),
        "pause" => engine.pause_container(&name),
        "unpause" => engine.unpause_container(&name),
        "rename" => engine.rename_container(&name, &new_name),
        _ => Err(answer::page_not_found()),
    })
    .await?;
    route::done()
}

pub(crate) async fn remove(call: Call, name: String) -> Outcome {
    if call.params.flag("link", false) {
        return Err(Error::unsupported("nacre has no links between containers"));
    }
    let force = call.params.flag("force", false);
    call.work(move |engine| engine.remove_container(&name, force))
        .await?;
    route::done()
}

pub(crate) async fn prune(call: Call) -> Outcome {
    let filters = call.params.filters()?;
    let pruned = call
        .work(move |engine| engine.prune_containers(&filters))
        .await?;
    answer::json(&api::ContainersPruneResponse {
        containers_deleted: (!pruned.ids.is_empty()).then_some(pruned.ids),
        space_reclaimed: pruned.bytes,
    })
}

pub(crate) async fn changes(call: Call, name: String) -> Outcome {
    let changes = call.work(move |engine| engine.changes(&name)).await?;
    if changes.is_empty() {
        return answer::json(&Value::Null);
    }
    let change = |change: &crate::engine::Change| api::Change {
        kind: match change.kind {
            ChangeKind::Modified => api::KIND_CHANGED,
            ChangeKind::Added => api::KIND_ADDED,
            ChangeKind::Deleted => api::KIND_DELETED,
        },
        path: String::from_utf8_lossy(&change.path).into_owned(),
    };
    answer::json(&changes.iter().map(change).collect::<Vec<_>>())
}

pub(crate) async fn commit(mut call: Call) -> Outcome {
    let body: Option<api::ContainerConfig> = call.json_or_default().await?;
    let config: Option<Config> = body.map(|config| reshape(&config)).transpose()?;
    let params = &call.params;
    let changes = params.all("changes");
    let request = CommitRequest {
        container: params.text("container").to_owned(),
        name: match params.some("repo") {
            Some(repository) => Some(image::target_name(repository, params.text("tag"))?),
            None => None,
        },
        author: params.text("author").to_owned(),
        comment: params.text("comment").to_owned(),
        changes,
        pause: params.flag("pause", true),
        config,
    };
    let id = call.work(move |engine| engine.commit(request)).await?;
    answer::json_with(
        StatusCode::CREATED,
        &api::CommitResponse { id: id.to_string() },
    )
}
