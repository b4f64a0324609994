//! The routes about the service itself, and the short answers for what nacre has not: networks and volumes.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, header};
use bytes::Bytes;
use nacre_cli::api;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::answer::{self, Answer, Outcome};
use super::call::Call;
use super::{containers, images};
use crate::engine::{Engine, Error, Event, Filters, Phase, host_architecture, when};
use crate::reference::DEFAULT_DOMAIN;
use crate::registry::{self, Insecure};

pub(crate) fn ping(call: &Call) -> Answer {
    let body = if super::route::is_head(&call.method) {
        Body::empty()
    } else {
        Body::from("OK")
    };
    let mut response = Response::new(body);
    let headers: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::PRAGMA, "no-cache"),
        (HeaderName::from_static("builder-version"), "1"),
        (HeaderName::from_static("swarm"), "inactive"),
    ];
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response.into()
}

/// nacre's own version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

fn kernel() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

pub(crate) fn version() -> Outcome {
    let (arch, _) = host_architecture();
    let details = [
        ("ApiVersion", api::API_VERSION),
        ("MinAPIVersion", api::API_VERSION_MIN),
        ("Arch", arch),
        ("Os", "linux"),
    ];
    answer::json(&api::Version {
        platform: api::VersionPlatform {
            name: "nacre".to_owned(),
        },
        components: vec![api::VersionComponent {
            name: "Engine".to_owned(),
            version: VERSION.to_owned(),
            details: details
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        }],
        version: VERSION.to_owned(),
        api_version: api::API_VERSION.to_owned(),
        min_api_version: api::API_VERSION_MIN.to_owned(),
        os: "linux".to_owned(),
        arch: arch.to_owned(),
        kernel_version: kernel(),
        ..api::Version::default()
    })
}

pub(crate) async fn info(call: Call) -> Outcome {
    let root = call.about.root.display().to_string();
    let info = call.work(move |engine| engine_info(engine, root)).await?;
    answer::json(&with_registries(info, &call.about.registries))
}

/// Adds what is in force for registries.
fn with_registries(mut info: api::Info, settings: &registry::Settings) -> api::Info {
    let config = &mut info.registry_config;
    let mut index = |name: &str, secure| {
        let mirrors = settings.mirrors.iter();
        let entry = api::IndexInfo {
            name: name.to_owned(),
            mirrors: mirrors.filter_map(|at| at.of_registry(name)).collect(),
            secure,
            official: name == DEFAULT_DOMAIN,
        };
        config.index_configs.insert(name.to_owned(), entry);
    };
    index(DEFAULT_DOMAIN, true);
    // What this machine serves may be without TLS.
    let mut networks = vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()];
    for entry in &settings.insecure {
        match entry {
            Insecure::Host(name) => index(name, false),
            Insecure::Network(address, bits) => networks.push(format!("{address}/{bits}")),
        }
    }
    config.insecure_registry_cidrs = networks;
    let mirrors = settings.mirrors.iter();
    config.mirrors = Some(
        mirrors
            .filter_map(|at| at.of_registry(DEFAULT_DOMAIN))
            .collect(),
    );
    [info.http_proxy, info.https_proxy, info.no_proxy] = settings.proxies.shown();
    info
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn engine_info(engine: &Engine, root: String) -> Result<api::Info, Error> {
    let containers = engine.containers();
    let of = |phases: &[Phase]| {
        count(
            containers
                .iter()
                .filter(|c| phases.contains(&c.state.phase))
                .count(),
        )
    };
    let uname = rustix::system::uname();
    Ok(api::Info {
        id: engine.identity(),
        containers: count(containers.len()),
        containers_running: of(&[Phase::Running]),
        containers_paused: of(&[Phase::Paused]),
        containers_stopped: of(&[Phase::Created, Phase::Exited, Phase::Dead]),
        images: count(engine.list_images(&Filters::default(), true)?.len()),
        driver: "nacre".to_owned(),
        driver_status: vec![["Backing store".to_owned(), "RocksDB".to_owned()]],
        plugins: api::PluginsInfo {
            volume: Some(vec![]),
            network: Some(vec!["host".to_owned(), "null".to_owned()]),
            authorization: None,
            log: Some(vec!["json-file".to_owned()]),
        },
        ipv4_forwarding: true,
        system_time: when::rfc3339(when::now()),
        logging_driver: "json-file".to_owned(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            "2"
        } else {
            "1"
        }
        .to_owned(),
        kernel_version: kernel(),
        operating_system: operating_system(),
        os_type: "linux".to_owned(),
        architecture: uname.machine().to_string_lossy().into_owned(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        ncpu: count(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)),
        mem_total: memory_bytes(),
        docker_root_dir: root,
        name: uname.nodename().to_string_lossy().into_owned(),
        server_version: VERSION.to_owned(),
        runtimes: [("nacre".to_owned(), json!({"path": "nacre"}))].into(),
        default_runtime: "nacre".to_owned(),
        swarm: api::SwarmInfo {
            local_node_state: "inactive".to_owned(),
            ..api::SwarmInfo::default()
        },
        security_options: vec!["name=seccomp,profile=builtin".to_owned()],
        ..api::Info::default()
    })
}

fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(
        || "Linux".to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}

fn memory_bytes() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

pub(crate) async fn disk_usage(call: Call) -> Outcome {
    let version = call.version;
    let usage = call
        .work(move |engine| {
            let listed = engine.list_images(&Filters::default(), true)?;
            let shared = engine.shared_bytes(&listed);
            let rows =
                listed
                    .iter()
                    .zip(&shared.per_image)
                    .map(|(image, bytes)| api::ImageSummary {
                        shared_size: images::signed(*bytes),
                        containers: count(image.containers),
                        ..images::summary(image, version)
                    });
            let containers = engine.containers();
            let containers: Result<Vec<_>, Error> = containers
                .iter()
                .map(|document| containers::summary(engine, document, containers::Sizes::Counted))
                .collect();
            Ok(api::DiskUsage {
                layers_size: images::signed(shared.all_layers),
                images: rows.collect(),
                containers: containers?,
                ..api::DiskUsage::default()
            })
        })
        .await?;
    answer::json(&usage)
}

fn network_document(name: &str) -> Value {
    let driver = if name == "none" { "null" } else { name };
    json!({
        "Name": name, "Id": name, "Created": when::NEVER, "Scope": "local", "Driver": driver,
        "EnableIPv4": true, "EnableIPv6": false, "IPAM": {"Driver": "default", "Options": null, "Config": []},
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
        "Containers": {}, "Options": {}, "Labels": {}
    })
}

pub(crate) fn networks() -> Outcome {
    answer::json(&[network_document("host"), network_document("none")])
}

pub(crate) fn network(name: &str) -> Outcome {
    match name {
        "host" | "none" => answer::json(&network_document(name)),
        _ => Err(Error::not_found(format!("network {name} not found"))),
    }
}

pub(crate) fn volumes() -> Outcome {
    answer::json(&json!({"Volumes": [], "Warnings": null}))
}

pub(crate) fn nothing_pruned(parts: &[&str]) -> Outcome {
    match parts {
        ["networks", ..] => answer::json(&json!({"NetworksDeleted": null})),
        _ => answer::json(&json!({"VolumesDeleted": null, "SpaceReclaimed": 0})),
    }
}

/// Events from `since` on, until `until`; without `until` for as long as the client stays.
pub(crate) fn events(call: &Call) -> Outcome {
    let filters = call.params.filters()?;
    let now = when::now();
    let point = |key: &str| -> Result<Option<i64>, Error> {
        let bad = |text: &str| Error::invalid(format!("invalid value for {key}: {text:?}"));
        call.params
            .some(key)
            .map(|text| when::point(text, now).ok_or_else(|| bad(text)))
            .transpose()
    };
    let (since, until) = (point("since")?, point("until")?);
    let (kept, mut next) = call.engine.listen();
    let (to, from) = answer::pipe();
    tokio::spawn(async move {
        for event in kept
            .iter()
            .filter(|event| since.is_some_and(|since| event.time >= since))
        {
            if until.is_some_and(|until| event.time > until)
                || send(&to, event, &filters).await.is_err()
            {
                return;
            }
        }
        let end = until.map(|until| {
            std::time::Duration::from_nanos(
                u64::try_from(until.saturating_sub(when::now())).unwrap_or(0),
            )
        });
        let timer = async {
            match end {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(timer);
        loop {
            tokio::select! {
                () = &mut timer => return,
                () = to.closed() => return,
                event = next.recv() => match event {
                    Ok(event) => if send(&to, &event, &filters).await.is_err() { return },
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    });
    Ok(answer::streamed("application/json", answer::chunks(from)))
}

async fn send(
    to: &tokio::sync::mpsc::Sender<Bytes>,
    event: &Event,
    filters: &Filters,
) -> Result<(), ()> {
    if !fits(event, filters) {
        return Ok(());
    }
    let from = event.attributes.get("image").map_or("", String::as_str);
    let mut document = json!({
        "Type": event.kind, "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local", "time": event.time.div_euclid(when::SECOND), "timeNano": event.time,
    });
    if let Value::Object(fields) = &mut document
        && matches!(event.kind, "container" | "image")
    {
        fields.insert("status".to_owned(), event.action.clone().into());
        fields.insert("id".to_owned(), event.id.clone().into());
        if event.kind == "container" {
            fields.insert("from".to_owned(), from.into());
        }
    }
    to.send(Bytes::from(format!("{document}\n")))
        .await
        .map_err(drop)
}

fn fits(event: &Event, filters: &Filters) -> bool {
    let any = |key: &str, fits: &dyn Fn(&String) -> bool| {
        !filters.has(key) || filters.get(key).iter().any(fits)
    };
    let name = event.attributes.get("name").map_or("", String::as_str);
    let named = |wanted: &String| event.id.starts_with(wanted.as_str()) || name == wanted;
    let is = |kind: &str| event.kind == kind;
    any("type", &|wanted| wanted == event.kind)
        && any("event", &|wanted| {
            event.action.split(':').next() == Some(wanted)
        })
        && any("container", &|wanted| is("container") && named(wanted))
        && any("image", &|wanted| {
            is("image") && named(wanted) || event.attributes.get("image") == Some(wanted)
        })
        && filters.labels_match("label", &event.attributes)
}
