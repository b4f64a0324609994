//! One registry: where it is, and how a request is sent, authorised, answered and tried again. Knows nothing of images.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use tokio::sync::OnceCell;

use super::auth::{self, Auth, Credentials};
use super::certificates::{self, Certificates};
use super::error::{self, Direction, Error, Refusal};
use super::mirrors::Mirror;
use super::reach::{self, Insecure, MirrorAt, Proxies, Trust};
use super::{Result, blobs};
use crate::reference::{DEFAULT_DOMAIN, Reference};

/// Where docker.io's registry is.
const DEFAULT_DOMAIN_HOST: &str = "registry-1.docker.io";
/// Bytes of an error document that are read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// A registry that asks for a longer pause is told the user about instead.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The name of the program to registries and token servers.
const CLIENT_NAME: &str = concat!("nacre/", env!("CARGO_PKG_VERSION"));

/// How patient a client is, and how it reaches registries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Until a connection must stand.
    pub connect: Duration,
    /// Without a byte, before an exchange counts as broken.
    pub stall: Duration,
    /// How often a short request is sent.
    pub request_attempts: u32,
    /// How often a blob's transfer is begun or taken up again without having come further.
    pub blob_attempts: u32,
    /// Before the second attempt; twice as long before each further one.
    pub delay_first: Duration,
    /// No pause is longer.
    pub delay_max: Duration,
    /// Layers of one image that are fetched at once.
    pub layers_at_once: usize,
    /// Registries that need no verified TLS.
    pub insecure: Vec<Insecure>,
    /// Directories in the layout of docker's certs.d.
    pub certs_dirs: Vec<PathBuf>,
    /// Through what.
    pub proxies: Proxies,
    /// Where images are looked for first, in order.
    pub mirrors: Vec<MirrorAt>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            request_attempts: 3,
            blob_attempts: 6,
            delay_first: Duration::from_secs(1),
            delay_max: Duration::from_secs(30),
            layers_at_once: 3,
            insecure: Vec::new(),
            certs_dirs: ["/etc/docker/certs.d", "/etc/containers/certs.d"]
                .map(PathBuf::from)
                .into(),
            proxies: Proxies::default(),
            mirrors: Vec::new(),
        }
    }
}

impl Settings {
    /// The pause after this many failures.
    pub(super) fn delay(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.delay_first.saturating_mul(doubled).min(self.delay_max)
    }
}

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

    /// Sends a request until it succeeds, or fails in a way that will not pass.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Response> {
        let mut failures = 0;
        loop {
            let (error, pause) = match self.send_authorised(call).await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let pause = retry_after(&answer);
                    (self.refusal(call, answer).await, pause)
                }
                Err(error) => (error, None),
            };
            failures += 1;
            let unreachable =
                matches!(&error, Error::Transport { cause, .. } if cause.is_connect());
            if failures >= self.0.settings.request_attempts || unreachable || !error.is_passing() {
                return Err(error);
            }
            tokio::time::sleep(pause.unwrap_or_else(|| self.0.settings.delay(failures))).await;
        }
    }

    /// Waits for the head of an answer, not for ever.
    pub(super) async fn timed(
        &self,
        method: &Method,
        url: &Url,
        send: impl Future<Output = reqwest::Result<Response>>,
    ) -> Result<Response> {
        let stall = self.0.settings.stall;
        match tokio::time::timeout(stall, send).await {
            Ok(sent) => sent.map_err(|cause| self.transport(method, url, cause)),
            Err(_) => Err(Error::Stalled {
                action: action(method),
                url: shown(url),
                seconds: stall.as_secs(),
            }),
        }
    }

    /// What a failed exchange is called: a certificate that is refused is no broken connection.
    fn transport(&self, method: &Method, url: &Url, cause: reqwest::Error) -> Error {
        let Inner {
            registry, settings, ..
        } = &*self.0;
        match certificates::refused(&cause, registry, &settings.certs_dirs) {
            Some(what) => Error::Untrusted {
                action: action(method),
                url: shown(url),
                what,
            },
            None => Error::Transport {
                action: action(method),
                url: shown(url),
                cause,
            },
        }
    }

    /// Reads a body that is to be held in memory, up to a limit.
    pub(super) async fn read_body(
        &self,
        method: &Method,
        url: &Url,
        mut answer: Response,
        limit: usize,
    ) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = blobs::next_chunk(self, method, url, &mut answer).await? {
            if body.len().saturating_add(chunk.len()) > limit {
                let what = format!("answer to {} \"{}\"", action(method), shown(url));
                return Err(Error::TooLarge {
                    what,
                    limit: limit as u64,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Makes an error of an answer that is no success.
    pub(super) async fn refusal(&self, call: &Call<'_>, answer: Response) -> Error {
        let status = answer.status().as_u16();
        let oauth = auth::read_challenges(answer.headers())
            .error
            .filter(|_| status == 401 || status == 403);
        // The body of a refusal only adds words: that it breaks off changes nothing.
        let body = self
            .read_body(&call.method, &call.url, answer, ERROR_BYTES_MAX)
            .await
            .unwrap_or_default();
        let (mut code, mut message) = error::read_error_body(status, &body);
        match oauth {
            Some((kind, words)) if kind == "insufficient_scope" => {
                code = Some("DENIED".to_owned());
                message = words
                    .unwrap_or_else(|| "requested access to the resource is denied".to_owned());
            }
            _ if status == 401 && code.is_none() => {
                code = Some("UNAUTHORIZED".to_owned());
                message = "authentication required".to_owned();
            }
            _ => {}
        }
        Error::Refused(Box::new(Refusal {
            direction: call.direction,
            action: call.action(),
            url: shown(&call.url),
            reference: call.reference.clone(),
            status,
            code,
            message,
        }))
    }

    /// The registry broke the protocol.
    pub(super) fn breach(&self, what: String) -> Error {
        Error::Protocol {
            registry: self.0.registry.clone(),
            what,
        }
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

/// An address as errors show it: what follows `?` may be a secret of somebody's.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

pub(super) fn header(answer: &Response, name: &HeaderName) -> Option<String> {
    answer
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

/// Reads the pause that a registry asks for in seconds.
pub(super) fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = header(answer, &RETRY_AFTER)?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
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

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let settings = Settings::default();
        let seconds: Vec<u64> = (1..8)
            .map(|failures| settings.delay(failures).as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
    }
}
