//! One registry: where it is, and what is kept of it. Knows nothing of images.

use std::net::IpAddr;
use std::sync::Arc;

use reqwest::{Method, Url};
use tokio::sync::OnceCell;

use super::Result;
use super::auth::{Auth, Credentials};
use super::call::Call;
use super::certificates::Certificates;
use super::error::Error;
use super::mirrors::Mirror;
use super::reach::{self, Trust};
use super::settings::Settings;
use crate::reference::{DEFAULT_DOMAIN, Reference};

/// Where docker.io's registry is.
const DEFAULT_DOMAIN_HOST: &str = "registry-1.docker.io";
/// The name of the program to registries and token servers.
const CLIENT_NAME: &str = concat!("nacre/", env!("CARGO_PKG_VERSION"));

/// A registry, seen with one user's credentials. Clones share its connections and tokens.
#[derive(Clone)]
pub struct Client(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) registry: String,
    pub(super) http: reqwest::Client,
    pub(super) auth: Auth,
    pub(super) settings: Settings,
    pub(super) base: OnceCell<Url>,
    trust: Trust,
    /// Asked first, in order; only a client for pulls has some.
    pub(super) mirrors: Vec<Mirror>,
}

impl Client {
    /// A client for the registry of a reference's domain. Blocks where networks are named in the settings.
    pub fn new(domain: &str, credentials: Credentials, settings: Settings) -> Result<Client> {
        let trust = reach::trust(domain, &settings.insecure);
        Client::with_mirrors(domain, credentials, settings, trust, Vec::new())
    }

    pub(super) fn with_mirrors(
        domain: &str,
        credentials: Credentials,
        settings: Settings,
        trust: Trust,
        mirrors: Vec<Mirror>,
    ) -> Result<Client> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Two clients made at once both try; that the second comes too late is what it wants.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let http = http_client(domain, &settings, trust)?;
        Ok(Client(Arc::new(Inner {
            registry: domain.to_owned(),
            http,
            auth: Auth::new(credentials),
            settings,
            base: OnceCell::new(),
            trust,
            mirrors,
        })))
    }

    /// The domain that it was made for.
    pub fn registry(&self) -> &str {
        &self.0.registry
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    /// Layers of one image that are fetched at once.
    pub fn layers_at_once(&self) -> usize {
        self.0.settings.layers_at_once
    }

    /// The address of something in a reference's repository. With mirrors it is the one that the registry is presumed
    /// to have: the registry itself may never be asked.
    pub(super) async fn url(&self, reference: &Reference, rest: &str) -> Result<Url> {
        let base = match self.0.mirrors.is_empty() {
            true => self.base().await?.clone(),
            false => self.presumed()?,
        };
        base.join(&format!("v2/{}/{rest}", reference.path()))
            .map_err(|_| Error::Address(self.0.registry.clone()))
    }

    fn at(&self, scheme: &str) -> Result<Url> {
        let registry = &self.0.registry;
        let host = match registry == DEFAULT_DOMAIN {
            true => DEFAULT_DOMAIN_HOST,
            false => registry,
        };
        Url::parse(&format!("{scheme}://{host}/")).map_err(|_| Error::Address(registry.clone()))
    }

    /// Where the registry is if all is as usual.
    fn presumed(&self) -> Result<Url> {
        self.at(match self.0.trust {
            Trust::Verified | Trust::Insecure => "https",
            Trust::Loopback | Trust::Plain => "http",
        })
    }

    /// A call for the registry itself, at the address that it really has.
    pub(super) async fn settled<'a>(&self, call: &Call<'a>) -> Result<Call<'a>> {
        let mut call = call.clone();
        if !self.0.mirrors.is_empty() {
            let base = self.base().await?;
            if call.url.origin() == self.presumed()?.origin() {
                // Both have a host and one of two schemes that allow the change.
                call.url.set_scheme(base.scheme()).ok();
            }
        }
        Ok(call)
    }

    /// Finds out once where the registry is: without TLS only on loopback, where that is tried first, and where the
    /// settings allow it, where it comes last.
    pub(super) async fn base(&self) -> Result<&Url> {
        let find = || async {
            let (plain, tls) = (self.at("http")?, self.at("https")?);
            match self.0.trust {
                Trust::Verified => Ok(tls),
                Trust::Plain => Ok(plain),
                Trust::Loopback => match self.probe(&plain).await {
                    // What Go's servers say when they are spoken to without TLS.
                    Ok(400) => Ok(tls),
                    Ok(_) => Ok(plain),
                    Err(Error::Transport { cause, .. })
                        if !cause.is_connect() && self.probe(&tls).await.is_ok() =>
                    {
                        Ok(tls)
                    }
                    Err(error) => Err(error),
                },
                Trust::Insecure => match self.probe(&tls).await {
                    Ok(_) => Ok(tls),
                    Err(by_tls) => match self.probe(&plain).await {
                        Ok(400) => Err(by_tls),
                        Ok(_) => Ok(plain),
                        Err(error) => Err(error),
                    },
                },
            }
        };
        self.0.base.get_or_try_init(find).await
    }

    async fn probe(&self, base: &Url) -> Result<u16> {
        let url = base
            .join("v2/")
            .map_err(|_| Error::Address(self.0.registry.clone()))?;
        let answer = self
            .timed(&Method::GET, &url, self.0.http.get(url.clone()).send())
            .await?;
        Ok(answer.status().as_u16())
    }
}

fn http_client(domain: &str, settings: &Settings, trust: Trust) -> Result<reqwest::Client> {
    let unusable = |source| Error::Certificates {
        registry: domain.to_owned(),
        source,
    };
    let certificates = Certificates::read(&settings.certs_dirs, domain).map_err(unusable)?;
    let verified = match trust {
        Trust::Verified | Trust::Plain => true,
        // Whoever gives this machine's registry an authority wants it to be asked.
        Trust::Loopback => certificates.known,
        Trust::Insecure => false,
    };
    let setup = |source| Error::Setup {
        registry: domain.to_owned(),
        source,
    };
    let mut builder = reqwest::Client::builder()
        .user_agent(CLIENT_NAME)
        .connect_timeout(settings.connect)
        .referer(false)
        .tcp_nodelay(true)
        .tls_danger_accept_invalid_certs(!verified)
        .no_proxy();
    for proxy in settings.proxies.rules().map_err(setup)? {
        builder = builder.proxy(proxy);
    }
    certificates.apply(builder).build().map_err(setup)
}

/// Whether a domain is this machine.
pub(super) fn is_loopback(domain: &str) -> bool {
    let host = match domain
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((v6, _)) => v6,
        None => domain.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for domain in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.8.9.1",
            "[::1]:5000",
            "[::1]",
        ] {
            assert!(is_loopback(domain), "{domain}");
        }
        for domain in [
            "localhost.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1",
            "docker.io",
            "[::2]:80",
            "",
        ] {
            assert!(!is_loopback(domain), "{domain}");
        }
    }
}
