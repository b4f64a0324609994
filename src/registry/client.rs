//! One registry: where it is, and how a request is sent, authorised, answered and tried again. Knows nothing of images.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_store::{Digest, ManifestId, RawManifest};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK, RETRY_AFTER,
};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::auth::{self, Auth, Challenge, Credentials, Step};
use super::error::{self, Direction, Error, Refusal};
use super::manifest::{Fetched, MANIFEST_BYTES_MAX, Manifest, media};
use super::{Result, blobs};
use crate::reference::{DEFAULT_DOMAIN, DEFAULT_TAG, Reference};

/// Where docker.io's registry is.
const DEFAULT_DOMAIN_HOST: &str = "registry-1.docker.io";
/// Bytes of an error document that are read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Bytes of one page of tags.
const TAGS_BYTES_MAX: usize = 4 << 20;
/// Tags of one repository; the largest public ones have tens of thousands.
const TAGS_MAX: usize = 500_000;
/// A registry that asks for a longer pause is told the user about instead.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The name of the program to registries and token servers.
const CLIENT_NAME: &str = concat!("nacre/", env!("CARGO_PKG_VERSION"));
/// The digest of what was sent or asked for.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// How patient a client is.
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
pub struct Client(Arc<Inner>);

struct Inner {
    registry: String,
    http: reqwest::Client,
    auth: Auth,
    settings: Settings,
    base: OnceCell<Url>,
}

/// One request, in a form that can be sent again.
pub(super) struct Call<'a> {
    pub(super) direction: Direction,
    pub(super) reference: &'a Reference,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Another repository that must be readable: the source of a mount.
    pub(super) also_from: Option<&'a str>,
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
        }
    }

    /// `Get`, as errors name it.
    pub(super) fn action(&self) -> &'static str {
        action(&self.method)
    }

    /// What a token must allow (distribution, token scopes), the source of a mount included.
    pub(super) fn scopes(&self) -> Vec<String> {
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
    /// A client for the registry of a reference's domain.
    pub fn new(domain: &str, credentials: Credentials, settings: Settings) -> Result<Client> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Two clients made at once both try; that the second comes too late is what it wants.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(CLIENT_NAME)
            .connect_timeout(settings.connect)
            .referer(false)
            .tcp_nodelay(true);
        if is_loopback(domain) {
            // A proxy's loopback is not ours.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|source| Error::Setup {
            registry: domain.to_owned(),
            source,
        })?;
        Ok(Client(Arc::new(Inner {
            registry: domain.to_owned(),
            http,
            auth: Auth::new(credentials),
            settings,
            base: OnceCell::new(),
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

    /// Fetches the manifest or index that a reference names; its digest counts more than its tag. Verified against
    /// the digest that it was asked by, or that the registry names.
    pub async fn manifest(&self, reference: &Reference) -> Result<Fetched> {
        let asked = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or(DEFAULT_TAG).to_owned(),
        };
        let mut call = Call::get(
            reference,
            self.url(reference, &format!("manifests/{asked}")).await?,
        );
        for accepted in [
            media::OCI_INDEX,
            media::OCI_MANIFEST,
            media::DOCKER_LIST,
            media::DOCKER_MANIFEST,
        ] {
            call.headers
                .append(ACCEPT, HeaderValue::from_static(accepted));
        }
        let answer = self.send(&call).await?;
        let media_type = header(&answer, &CONTENT_TYPE).unwrap_or_default();
        let media_type = media_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        let named: Option<Digest> =
            header(&answer, &CONTENT_DIGEST).and_then(|text| text.parse().ok());
        let bytes = self
            .read_body(&call.method, &call.url, answer, MANIFEST_BYTES_MAX)
            .await?;
        let actual = Digest::of(&bytes);
        if let Some(expected) = reference.digest().copied().or(named)
            && expected != actual
        {
            return Err(Error::DigestMismatch {
                what: "manifest",
                expected,
                actual,
            });
        }
        let mut raw = RawManifest { media_type, bytes };
        let manifest = Manifest::parse(&raw).map_err(|source| Error::Manifest {
            name: reference.familiar(),
            source,
        })?;
        raw.media_type = manifest.media_type(&raw).to_owned();
        Ok(Fetched {
            raw,
            id: ManifestId(actual),
            manifest,
        })
    }

    /// All tags of a repository, in the registry's order.
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut next = Some(self.url(reference, "tags/list?n=1000").await?);
        while let Some(url) = next {
            let call = Call::get(reference, url);
            let answer = self.send(&call).await?;
            next = header(&answer, &LINK).and_then(|link| next_page(&call.url, &link));
            let body = self
                .read_body(&call.method, &call.url, answer, TAGS_BYTES_MAX)
                .await?;
            let page: Page = serde_json::from_slice(&body)
                .map_err(|error| self.breach(format!("list of tags: {error}")))?;
            let page = page.tags.unwrap_or_default();
            if page.is_empty() {
                break;
            }
            tags.extend(page);
            if tags.len() > TAGS_MAX {
                let what = format!("list of the tags of {}", reference.familiar_repository());
                return Err(Error::TooLarge {
                    what,
                    limit: TAGS_MAX as u64,
                });
            }
        }
        Ok(tags)
    }

    /// Asks the registry whether the credentials are good for anything (`docker login`).
    pub async fn check_credentials(&self) -> Result<()> {
        let any = Reference::parse(&format!("{}/nacre", self.0.registry))
            .map_err(|_| Error::Address(self.0.registry.clone()))?;
        let url = self
            .base()
            .await?
            .join("v2/")
            .map_err(|_| Error::Address(self.0.registry.clone()))?;
        self.send(&Call::get(&any, url)).await.map(drop)
    }

    /// The address of something in a reference's repository.
    pub(super) async fn url(&self, reference: &Reference, rest: &str) -> Result<Url> {
        let base = self.base().await?;
        base.join(&format!("v2/{}/{rest}", reference.path()))
            .map_err(|_| Error::Address(self.0.registry.clone()))
    }

    /// Finds out once where the registry is. Only on loopback may it be without TLS, and there that is tried first.
    async fn base(&self) -> Result<&Url> {
        let Inner { registry, base, .. } = &*self.0;
        base.get_or_try_init(|| async {
            let host = if registry == DEFAULT_DOMAIN {
                DEFAULT_DOMAIN_HOST
            } else {
                registry
            };
            let at = |scheme| {
                Url::parse(&format!("{scheme}://{host}/"))
                    .map_err(|_| Error::Address(registry.clone()))
            };
            let (plain, tls) = (at("http")?, at("https")?);
            if !is_loopback(registry) {
                return Ok(tls);
            }
            match self.probe(&plain).await {
                // What Go's servers say when they are spoken to without TLS.
                Ok(400) => Ok(tls),
                Ok(_) => Ok(plain),
                Err(Error::Transport { source, .. })
                    if !source.is_connect() && self.probe(&tls).await.is_ok() =>
                {
                    Ok(tls)
                }
                Err(error) => Err(error),
            }
        })
        .await
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
                matches!(&error, Error::Transport { source, .. } if source.is_connect());
            if failures >= self.0.settings.request_attempts || unreachable || !error.is_passing() {
                return Err(error);
            }
            tokio::time::sleep(pause.unwrap_or_else(|| self.0.settings.delay(failures))).await;
        }
    }

    /// Sends a request once; a 401 makes it look for a (new) token and send it once more.
    pub(super) async fn send_authorised(&self, call: &Call<'_>) -> Result<Response> {
        let mut challenged = false;
        loop {
            let request = self
                .0
                .http
                .request(call.method.clone(), call.url.clone())
                .headers(self.headers(call).await?);
            let answer = self
                .timed(
                    &call.method,
                    &call.url,
                    request.body(call.body.clone()).send(),
                )
                .await?;
            // Where a redirect led to, a challenge is a stranger's.
            if answer.status() != 401 || challenged || !self.is_ours(answer.url()) {
                return Ok(answer);
            }
            let found = auth::read_challenges(answer.headers());
            let Some(challenge) = found.challenge else {
                return Ok(answer);
            };
            if challenge == Challenge::Basic && self.0.auth.basic().is_none() {
                return Err(self.unauthorised(call, "no basic auth credentials".to_owned()));
            }
            self.0.auth.learn(challenge, &call.scopes());
            challenged = true;
        }
    }

    /// The headers of a request, with the authorisation if it goes to the registry itself.
    pub(super) async fn headers(&self, call: &Call<'_>) -> Result<HeaderMap> {
        let mut headers = call.headers.clone();
        // An upload may be sent elsewhere; who we are is the registry's business alone.
        if !self.is_ours(&call.url) {
            return Ok(headers);
        }
        let scopes = call.scopes();
        if let Step::Fetch { realm, service } = self.0.auth.step(&scopes) {
            self.fetch_token(call, &realm, service.as_deref(), &scopes)
                .await?;
        }
        match self.0.auth.step(&scopes) {
            Step::Send(Some(value)) => {
                headers.insert(AUTHORIZATION, value);
            }
            Step::Send(None) | Step::Fetch { .. } => {}
            Step::Missing(reason) => return Err(self.unauthorised(call, reason.to_owned())),
        }
        Ok(headers)
    }

    /// Remembers a challenge that answered a request sent by other means.
    pub(super) fn learn(&self, challenge: Challenge, call: &Call<'_>) {
        self.0.auth.learn(challenge, &call.scopes());
    }

    fn is_ours(&self, url: &Url) -> bool {
        self.0
            .base
            .get()
            .is_some_and(|base| base.origin() == url.origin())
    }

    /// Fetches a token (distribution, token and OAuth2 specifications).
    async fn fetch_token(
        &self,
        call: &Call<'_>,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<()> {
        let auth = &self.0.auth;
        let secret = !matches!(auth.credentials, Credentials::Anonymous);
        let registry_is_plain = self
            .0
            .base
            .get()
            .is_some_and(|base| base.scheme() == "http");
        if secret && realm.scheme() != "https" && !registry_is_plain {
            return Err(self.unauthorised(
                call,
                format!("credentials are not sent without TLS to {realm}"),
            ));
        }
        let mut fields: Vec<(&str, &str)> = service
            .map(|service| ("service", service))
            .into_iter()
            .collect();
        let joined = scopes.join(" ");
        let request = if let Credentials::IdentityToken(token) = &auth.credentials {
            fields.extend([("scope", joined.as_str()), ("client_id", "nacre")]);
            fields.extend([
                ("grant_type", "refresh_token"),
                ("refresh_token", token.as_str()),
            ]);
            self.0
                .http
                .post(realm.clone())
                .header(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                )
                .body(form(&fields))
        } else {
            fields.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
            let mut url = realm.clone();
            if let Credentials::Basic { username, .. } = &auth.credentials {
                fields.push(("account", username));
            }
            url.query_pairs_mut().extend_pairs(&fields);
            match auth.basic() {
                Some(basic) => self
                    .0
                    .http
                    .get(url)
                    .header(AUTHORIZATION, format!("Basic {basic}")),
                None => self.0.http.get(url),
            }
        };
        let answer = self.timed(&Method::GET, realm, request.send()).await?;
        let status = answer.status();
        let body = self
            .read_body(&Method::GET, realm, answer, auth::TOKEN_BYTES_MAX)
            .await?;
        if !status.is_success() {
            let (_, words) = error::read_error_body(status.as_u16(), &body);
            return Err(match status.as_u16() {
                401 | 403 => self.unauthorised(call, format!("unauthorized: {words}")),
                _ => self.breach(format!("failed to fetch a token from {realm}: {words}")),
            });
        }
        let answer = serde_json::from_slice(&body)
            .map_err(|error| self.breach(format!("unreadable token from {realm}: {error}")))?;
        auth.keep(scopes, answer)
            .map_err(|what| self.breach(what.to_owned()))
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
            Ok(sent) => sent.map_err(|source| Error::Transport {
                action: action(method),
                url: shown(url),
                source,
            }),
            Err(_) => Err(Error::Stalled {
                action: action(method),
                url: shown(url),
                seconds: stall.as_secs(),
            }),
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

    fn unauthorised(&self, call: &Call<'_>, reason: String) -> Error {
        Error::Unauthorized {
            action: call.action(),
            url: shown(&call.url),
            reason,
        }
    }

    /// The registry broke the protocol.
    pub(super) fn breach(&self, what: String) -> Error {
        Error::Protocol {
            registry: self.0.registry.clone(),
            what,
        }
    }
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

/// `<URL>; rel="next"` (RFC 5988), on the same registry.
fn next_page(from: &Url, link: &str) -> Option<Url> {
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    let next = from.join(target).ok()?;
    (rest.contains("next") && next.origin() == from.origin() && next != *from).then_some(next)
}

/// Encodes a form (application/x-www-form-urlencoded), as a URL's query is.
fn form(fields: &[(&str, &str)]) -> String {
    let Ok(mut url) = Url::parse("http://form/") else {
        return String::new();
    };
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

/// Whether a domain is this machine.
fn is_loopback(domain: &str) -> bool {
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
    #![expect(clippy::unwrap_used, reason = "tests")]

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
    fn pages_stay_on_the_registry() {
        let from = Url::parse("http://r:1/v2/a/tags/list?n=1").unwrap();
        let next = next_page(&from, r#"</v2/a/tags/list?n=1&last=x>; rel="next""#).unwrap();
        assert_eq!(next.as_str(), "http://r:1/v2/a/tags/list?n=1&last=x");
        assert_eq!(next_page(&from, r#"<http://evil/v2/>; rel="next""#), None);
        assert_eq!(next_page(&from, "garbage"), None);
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
