//! One request, in a form that can be sent again. Sends nothing.

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

use super::error::Direction;
use crate::reference::Reference;

/// One request, in a form that can be sent again.
#[derive(Clone)]
pub(super) struct Call<'a> {
    pub(super) direction: Direction,
    pub(super) reference: &'a Reference,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Another repository that must be readable: the source of a mount.
    pub(super) also_from: Option<&'a str>,
    /// How often the transfer broke that this request belongs to: each time it begins one mirror further.
    pub(super) failures: u32,
    /// Whether it is about the registry, not a repository.
    pub(super) unscoped: bool,
}

impl<'a> Call<'a> {
    pub(super) fn get(reference: &'a Reference, url: Url) -> Call<'a> {
        Call::new(Direction::Pull, reference, Method::GET, url)
    }

    pub(super) fn new(
        direction: Direction,
        reference: &'a Reference,
        method: Method,
        url: Url,
    ) -> Call<'a> {
        Call {
            direction,
            reference,
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            also_from: None,
            failures: 0,
            unscoped: false,
        }
    }

    /// `Get`, as errors name it.
    pub(super) fn action(&self) -> &'static str {
        action(&self.method)
    }

    /// What a token must allow (distribution, token scopes), the source of a mount included.
    pub(super) fn scopes(&self) -> Vec<String> {
        if self.unscoped {
            return Vec::new();
        }
        let actions = match self.direction {
            Direction::Pull => "pull",
            Direction::Push => "pull,push",
        };
        let mut scopes = vec![format!("repository:{}:{actions}", self.reference.path())];
        scopes.extend(self.also_from.map(|path| format!("repository:{path}:pull")));
        scopes
    }
}

pub(super) fn action(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "Get",
        "HEAD" => "Head",
        "POST" => "Post",
        "PUT" => "Put",
        "PATCH" => "Patch",
        _ => "Request",
    }
}
