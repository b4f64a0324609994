//! Layers that their publisher forbids to upload, at the addresses that their descriptors name. Nobody's credentials go
//! there; what comes is verified by its digest like everything.

use reqwest::Url;

use super::Result;
use super::auth::Credentials;
use super::call::Call;
use super::client::Client;
use super::error::Error;
use super::manifest::Descriptor;
use super::send::{Answered, Failed, retry_after, shown};

/// Schemes that are spoken. Without TLS will do: the digest comes from the manifest.
const SCHEMES: [&str; 2] = ["https", "http"];

/// The addresses of a layer beside its registry, each asked when the one before has failed.
pub(super) struct Elsewhere {
    left: std::vec::IntoIter<Url>,
    /// The one that is asked now.
    now: Option<(Url, Client)>,
}

impl Elsewhere {
    /// Those of a descriptor that may be used.
    pub(super) fn of(layer: &Descriptor) -> Elsewhere {
        let urls = match layer.is_foreign() {
            true => layer.urls.as_slice(),
            false => &[],
        };
        let urls = urls.iter().filter_map(|url| Url::parse(url).ok());
        let urls: Vec<Url> = urls
            .filter(|url| SCHEMES.contains(&url.scheme()) && url.has_host())
            .collect();
        Elsewhere {
            left: urls.into_iter(),
            now: None,
        }
    }

    /// Whether it has come to an address.
    pub(super) fn is_asked(&self) -> bool {
        self.now.is_some()
    }

    /// Turns to the next address; false: there is none.
    pub(super) async fn next(&mut self, client: &Client) -> Result<bool> {
        let Some(url) = self.left.next() else {
            return Ok(false);
        };
        let domain = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let (settings, of) = (client.settings().clone(), domain.clone());
        // It reads files and may resolve names.
        let made = tokio::task::spawn_blocking(move || {
            Client::new(&domain, Credentials::Anonymous, settings)
        });
        let made = made.await.map_err(|_| Error::Address(of))??;
        tracing::info!(url = shown(&url), "a layer is fetched from elsewhere");
        self.now = Some((url, made));
        Ok(true)
    }

    /// Sends a call to the address that is asked now, if it has come to that.
    pub(super) async fn ask(
        &self,
        call: &Call<'_>,
    ) -> Option<std::result::Result<Answered, Failed>> {
        let (url, client) = self.now.as_ref()?;
        let mut call = call.clone();
        call.url = url.clone();
        Some(ask(client, &call).await)
    }
}

async fn ask(client: &Client, call: &Call<'_>) -> std::result::Result<Answered, Failed> {
    let response = client.send_here(call).await?;
    if response.status().is_success() {
        return Ok(Answered {
            response,
            mirror: None,
        });
    }
    let pause = retry_after(&response);
    let error = client.refusal(call, response).await;
    Err(Failed { error, pause })
}
