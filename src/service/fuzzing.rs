//! Doors for tests/fuzz: requests, as far as they are read before the engine is asked.

use axum::http::HeaderMap;
use nacre_cli::api;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::create;
use super::images::reshape;
use super::params::{self, Params};
use super::streams::detach_keys;
use super::{raw, transfers};
use crate::engine::{self, Config};

/// Reads the head of a request as the take-over does, and what the head says as the routes do.
pub fn head(bytes: &[u8]) {
    let verdict = raw::judge(bytes);
    let Some(Some((request, head_len, _))) = raw::parse(bytes) else {
        return;
    };
    assert!(head_len <= bytes.len(), "a head beyond what came");
    assert!(verdict.is_some(), "a whole head, and no verdict");
    drop(params::path(request.uri().path()));
    if let Some(query) = request.uri().query() {
        let params = Params::parse(query);
        // Refusals are right answers.
        drop(params.filters());
        drop(params.number::<u16>("h"));
        drop(detach_keys(params.text("detachKeys")));
        params.flag("all", false);
    }
    credentials(request.headers());
}

/// Refused, missing or read: credentials never pass into an error.
fn credentials(headers: &HeaderMap) {
    if let Err(error) = transfers::credentials(headers) {
        assert_eq!(
            error.to_string(),
            format!("invalid {} header", api::REGISTRY_AUTH_HEADER)
        );
    }
}

/// Reads a JSON body as each of the routes that take one; `inherited` is the configuration of an image.
pub fn body(bytes: &[u8], inherited: &[u8]) {
    if let Some(mut request) = again::<api::ContainerCreateRequest>(bytes) {
        let mut warnings = Vec::new();
        drop(create::host(&mut request.host_config, &mut warnings));
        let image: Config = serde_json::from_slice(inherited).unwrap_or_default();
        if let Ok(mut config) = reshape::<Config>(&request.config) {
            engine::fuzzing::run(&mut config, &image);
        }
    }
    if let Some(request) = again::<api::ExecCreateRequest>(bytes) {
        drop(detach_keys(&request.detach_keys));
        request.console_size.and_then(super::exec::size);
    }
    let _start = again::<api::ExecStartRequest>(bytes);
    drop(again::<api::MountRequest>(bytes));
    drop(again::<api::ContainerConfig>(bytes));
    drop(again::<api::AuthConfig>(bytes));
}

/// What was read is written and read again: the same, or something got lost.
fn again<T: DeserializeOwned + Serialize + PartialEq>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).ok()?;
    let back: Option<T> = serde_json::from_slice(&written).ok();
    assert!(
        back.as_ref() == Some(&read),
        "lost: {}",
        String::from_utf8_lossy(&written)
    );
    Some(read)
}
