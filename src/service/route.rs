//! Which request goes where. Nothing but the table.

use axum::http::{Method, StatusCode};

use super::answer::{self, Outcome};
use super::call::Call;
use super::{
    auth, containers, create, distribution, exec, follow, images, nacre, streams, system, transfers,
};

/// Answers a request, or says that there is no such page.
pub(crate) async fn dispatch(call: Call) -> Outcome {
    let path = call.path.clone();
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let method = call.method.clone();
    match (method, parts.as_slice()) {
        (_, ["images" | "build" | "commit" | "distribution", ..]) => {
            image_routes(call, &parts).await
        }
        (_, ["containers" | "exec", ..]) => container_routes(call, &parts).await,
        (_, ["nacre", ..]) => nacre_routes(call, &parts).await,
        _ => system_routes(call, &parts).await,
    }
}

async fn system_routes(call: Call, parts: &[&str]) -> Outcome {
    match (call.method.as_str(), parts) {
        ("GET" | "HEAD", ["_ping"]) => Ok(system::ping(&call)),
        ("GET", ["version"]) => system::version(),
        ("GET", ["info"]) => system::info(call).await,
        ("GET", ["system", "df"]) => system::disk_usage(call).await,
        ("GET", ["events"]) => system::events(&call),
        ("POST", ["auth"]) => auth::log_in(call).await,
        ("GET", ["networks"]) => system::networks(),
        ("GET", ["networks", name]) => system::network(name),
        ("GET", ["volumes"]) => system::volumes(),
        ("GET", ["volumes", name]) => Err(crate::engine::Error::not_found(format!(
            "get {name}: no such volume"
        ))),
        ("POST", ["networks" | "volumes", "prune"]) => system::nothing_pruned(parts),
        ("GET", ["plugins", name, "json"]) => Err(crate::engine::Error::not_found(format!(
            "plugin \"{name}\" not found"
        ))),
        _ => Err(answer::page_not_found()),
    }
}

async fn image_routes(call: Call, parts: &[&str]) -> Outcome {
    match (call.method.as_str(), parts) {
        ("GET", ["images", "json"]) => images::list(call).await,
        ("GET", ["images", "get"]) => transfers::save(call).await,
        ("POST", ["images", "create"]) => transfers::create(call).await,
        ("POST", ["images", "load"]) => transfers::load(call).await,
        ("POST", ["images", "prune"]) => images::prune(call).await,
        ("POST", ["commit"]) => containers::commit(call).await,
        ("GET", ["images", name @ .., "json"]) => images::inspect(call, name.join("/")).await,
        ("GET", ["images", name @ .., "history"]) => images::history(call, name.join("/")).await,
        ("GET", ["images", name @ .., "get"]) => transfers::save_one(call, name.join("/")).await,
        ("POST", ["images", name @ .., "tag"]) => images::tag(call, name.join("/")).await,
        ("POST", ["images", name @ .., "push"]) => transfers::push(call, name.join("/")).await,
        ("GET", ["distribution", name @ .., "json"]) => {
            distribution::inspect(call, name.join("/")).await
        }
        ("GET", ["images", "search"]) => Err(not_yet("search")),
        ("POST", ["build"]) => Err(not_yet("build")),
        ("DELETE", ["images", name @ ..]) if !name.is_empty() => {
            images::remove(call, name.join("/")).await
        }
        _ => Err(answer::page_not_found()),
    }
}

async fn container_routes(call: Call, parts: &[&str]) -> Outcome {
    match (call.method.as_str(), parts) {
        ("GET", ["containers", "json"]) => containers::list(call).await,
        ("POST", ["containers", "create"]) => create::create(call).await,
        ("POST", ["containers", "prune"]) => containers::prune(call).await,
        ("GET", ["containers", name, "json"]) => {
            containers::inspect(call, (*name).to_owned()).await
        }
        ("GET", ["containers", name, "changes"]) => {
            containers::changes(call, (*name).to_owned()).await
        }
        ("GET", ["containers", name, "logs"]) => follow::logs(call, (*name).to_owned()).await,
        ("GET", ["containers", name, "export"]) => {
            transfers::export(call, (*name).to_owned()).await
        }
        ("POST", ["containers", name, "attach"]) => streams::attach(call, (*name).to_owned()).await,
        ("POST", ["containers", name, "wait"]) => follow::wait(call, (*name).to_owned()).await,
        ("POST", ["containers", name, "exec"]) => exec::create(call, (*name).to_owned()).await,
        ("POST", ["containers", name, "resize"]) => {
            exec::resize_container(call, (*name).to_owned()).await
        }
        (
            _,
            [
                "containers",
                _,
                what @ ("top" | "stats" | "archive" | "update"),
            ],
        ) => Err(not_yet(what)),
        ("POST", ["containers", name, verb]) => {
            containers::act(call, (*name).to_owned(), verb).await
        }
        ("DELETE", ["containers", name]) => containers::remove(call, (*name).to_owned()).await,
        ("POST", ["exec", id, "start"]) => streams::start_exec(call, (*id).to_owned()).await,
        ("POST", ["exec", id, "resize"]) => exec::resize(call, (*id).to_owned()).await,
        ("GET", ["exec", id, "json"]) => exec::inspect(&call, id),
        _ => Err(answer::page_not_found()),
    }
}

async fn nacre_routes(call: Call, parts: &[&str]) -> Outcome {
    match (call.method.as_str(), parts) {
        ("POST", ["nacre", "mounts"]) => nacre::mount(call).await,
        ("GET", ["nacre", "mounts"]) => nacre::mounts(call).await,
        ("POST", ["nacre", "remount"]) => nacre::remount(call).await,
        ("DELETE", ["nacre", "mounts"]) => nacre::unmount(call).await,
        ("DELETE", ["nacre", "uppers", name]) => {
            nacre::remove_upper(call, (*name).to_owned()).await
        }
        ("POST", ["nacre", "pull"]) => transfers::pull_local(call).await,
        ("GET", ["nacre", "check"]) => nacre::check(call).await,
        ("POST", ["nacre", "reclaim"]) => nacre::reclaim(call).await,
        ("POST", ["nacre", "shutdown"]) => nacre::shutdown(call).await,
        ("GET", ["nacre", "info"]) => nacre::info(&call),
        _ => Err(answer::page_not_found()),
    }
}

/// What docker does and nacre does not is said, so that nobody looks for a mistake of his own.
fn not_yet(what: &str) -> crate::engine::Error {
    crate::engine::Error::unsupported(format!("nacre does not do \"{what}\" yet"))
}

/// The answer to a verb that has none: 204.
pub(crate) fn done() -> Outcome {
    Ok(answer::status(StatusCode::NO_CONTENT))
}

/// Says whether the request is the head of another.
pub(crate) fn is_head(method: &Method) -> bool {
    method == Method::HEAD
}
