//! Mirrors: images by another way than their own registry, for pulls alone. What a mirror lacks or cannot give is looked
//! for at the next one, and at last where the image is at home. The name of the image never changes, and nobody's
//! credentials go to anybody else.

use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Response;

use super::Result;
use super::auth::Credentials;
use super::call::Call;
use super::client::Client;
use super::error::{Direction, Error};
use super::reach::{self, Trust};
use super::send::Answered;
use super::settings::Settings;
use crate::reference::Reference;

/// One mirror of the image that a client is for.
pub(super) struct Mirror {
    client: Client,
    /// The image's repository there.
    at: Reference,
    /// It could not be reached, or what it gave was not what it was asked for: the rest of this pull does without it.
    dead: AtomicBool,
}

impl Client {
    /// A client for pulling from a repository: its mirrors first. `credentials` finds what is known for a mirror's own
    /// host. Blocks, as [`Client::new`] does.
    pub fn for_pull(
        reference: &Reference,
        own: Credentials,
        settings: Settings,
        credentials: &dyn Fn(&str) -> Credentials,
    ) -> Result<Client> {
        let mut mirrors = Vec::new();
        for mirror in &settings.mirrors {
            let Some(at) = mirror.rewrite(reference) else {
                continue;
            };
            let trust = match mirror.plain {
                true => Trust::Plain,
                false => reach::trust(&mirror.domain, &settings.insecure),
            };
            let known = credentials(&mirror.domain);
            let client =
                Client::with_mirrors(&mirror.domain, known, settings.clone(), trust, Vec::new())?;
            mirrors.push(Mirror {
                client,
                at,
                dead: AtomicBool::new(false),
            });
        }
        let trust = reach::trust(reference.domain(), &settings.insecure);
        Client::with_mirrors(reference.domain(), own, settings, trust, mirrors)
    }

    /// The first good answer of a mirror, if the request is for something that mirrors have.
    pub(super) async fn ask_mirrors(&self, call: &Call<'_>) -> Option<Answered> {
        let mirrors = &self.0.mirrors;
        let rest = mirrored(call)?;
        // Who broke off is not asked first again; when all had their turn, from the beginning.
        let turns = mirrors.len().saturating_add(1);
        let skipped = usize::try_from(call.failures).ok()?.checked_rem(turns)?;
        for (place, mirror) in mirrors.iter().enumerate().skip(skipped) {
            if mirror.dead.load(Ordering::Relaxed) {
                continue;
            }
            let registry = mirror.client.registry();
            match mirror.get(call, rest).await {
                Ok(response) if response.status().is_success() => {
                    return Some(Answered {
                        response,
                        mirror: Some(place),
                    });
                }
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    tracing::info!(mirror = registry, status, what = rest, "not at this mirror");
                }
                Err(error) => {
                    tracing::warn!(mirror = registry, %error, "the mirror fails");
                    let unreachable = match &error {
                        Error::Transport { cause, .. } => cause.is_connect(),
                        Error::Untrusted { .. } | Error::Stalled { .. } => true,
                        _ => false,
                    };
                    mirror.dead.fetch_or(unreachable, Ordering::Relaxed);
                }
            }
        }
        None
    }

    /// Asks a mirror nothing more: what it gave was not what it was asked for.
    pub(super) fn distrust(&self, mirror: usize, error: &dyn std::error::Error) {
        if let Some(mirror) = self.0.mirrors.get(mirror) {
            let registry = mirror.client.registry();
            tracing::warn!(
                mirror = registry,
                %error,
                "the mirror gives what is not to be used"
            );
            mirror.dead.store(true, Ordering::Relaxed);
        }
    }
}

impl Mirror {
    async fn get(&self, call: &Call<'_>, rest: &str) -> Result<Response> {
        let call = Call {
            direction: call.direction,
            reference: &self.at,
            method: call.method.clone(),
            url: self.client.url(&self.at, rest).await?,
            headers: call.headers.clone(),
            body: call.body.clone(),
            also_from: None,
            failures: 0,
            unscoped: false,
        };
        self.client.send_here(&call).await
    }
}

/// `manifests/…` or `blobs/…`, of a pull. Lists of tags are the registry's own: a mirror may have a few of them only.
fn mirrored<'a>(call: &'a Call<'_>) -> Option<&'a str> {
    if call.direction != Direction::Pull || call.unscoped {
        return None;
    }
    let path = call.url.path().strip_prefix("/v2/")?;
    let rest = path
        .strip_prefix(call.reference.path())?
        .strip_prefix('/')?;
    (rest.starts_with("manifests/") || rest.starts_with("blobs/")).then_some(rest)
}
