//! What can go wrong between us and a registry, in the words that docker uses for it. Never hides the cause.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use nacre_store::Digest;
use serde::Deserialize;

use super::manifest::InvalidManifest;
use crate::reference::Reference;

/// Which way an image was to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the registry.
    Pull,
    /// To the registry.
    Push,
}

/// A failed exchange with a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection, or it broke.
    #[error("{action} \"{url}\": {}", root_cause(cause))]
    Transport {
        /// `Get`, `Put` …
        action: &'static str,
        /// Of what.
        url: String,
        /// What the HTTP library said. Not the `source`: what lies below repeats the URL at every step, and the last
        /// of it is shown.
        cause: reqwest::Error,
    },
    /// The registry took too long.
    #[error("{action} \"{url}\": no answer for {seconds} seconds")]
    Stalled {
        /// `Get`, `Put` …
        action: &'static str,
        /// Of what.
        url: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The registry said no.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The registry asks for credentials that were not given, or in a way that nacre cannot answer.
    #[error("{action} \"{url}\": {reason}")]
    Unauthorized {
        /// `Get`, `Put` …
        action: &'static str,
        /// Of what.
        url: String,
        /// As in `no basic auth credentials`.
        reason: String,
    },
    /// The token server gives no token, for no fault of the credentials.
    #[error("failed to fetch a token from {realm}: {words}")]
    NoToken {
        /// The token server.
        realm: String,
        /// Its answer.
        status: u16,
        /// Its own words.
        words: String,
    },
    /// The answer is none that the protocol knows.
    #[error("registry {registry}: {what}")]
    Protocol {
        /// Whose answer.
        registry: String,
        /// What is wrong with it.
        what: String,
    },
    /// Content is not what its digest says.
    #[error("{what} verification failed for digest {expected}: got {actual}")]
    DigestMismatch {
        /// `manifest`, `image config` …
        what: &'static str,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Content is longer or shorter than its descriptor says.
    #[error("{what} {digest} has {actual} bytes, its descriptor says {expected}")]
    SizeMismatch {
        /// `layer`, `image config` …
        what: &'static str,
        /// Which.
        digest: Digest,
        /// What was promised.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// An answer, or what a descriptor promises, is longer than such an answer may be.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// `manifest of debian:12` and the like.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// The manifest cannot be used.
    #[error("{name}: {source}")]
    Manifest {
        /// Whose.
        name: String,
        /// Why.
        #[source]
        source: InvalidManifest,
    },
    /// What was to be sent could not be read.
    #[error("cannot read {what} to send it: {source}")]
    Source {
        /// Which layer.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The HTTP library cannot be set up.
    #[error("cannot set up the connection to registry {registry}: {source}")]
    Setup {
        /// Which.
        registry: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The registry's certificate is refused.
    #[error("{action} \"{url}\": {what}")]
    Untrusted {
        /// `Get`, `Put` …
        action: &'static str,
        /// Of what.
        url: String,
        /// Why, and the way out.
        what: String,
    },
    /// What certs.d holds for the registry cannot be used.
    #[error("registry {registry}: {source}")]
    Certificates {
        /// Which.
        registry: String,
        /// Why.
        #[source]
        source: super::certificates::UnusableCertificate,
    },
    /// The registry does not take the credentials of a login.
    #[error("login attempt to {url} failed with status: {status}{}", reason(*status))]
    Login {
        /// What was asked.
        url: String,
        /// The answer.
        status: u16,
    },
    /// The registry's name gives no address.
    #[error("invalid registry address {0:?}")]
    Address(String),
}

impl Error {
    /// The status with which docker's API reports this.
    pub fn status(&self) -> u16 {
        match self {
            Error::Refused(refusal) => refusal.api_status(),
            Error::Unauthorized { .. } => 401,
            Error::Manifest {
                source: InvalidManifest::NoMatch(_),
                ..
            } => 404,
            Error::Address(_) => 400,
            Error::Login { status: 401, .. } => 401,
            Error::Transport { .. }
            | Error::Stalled { .. }
            | Error::NoToken { .. }
            | Error::Protocol { .. }
            | Error::DigestMismatch { .. }
            | Error::SizeMismatch { .. }
            | Error::TooLarge { .. }
            | Error::Manifest { .. }
            | Error::Source { .. }
            | Error::Untrusted { .. }
            | Error::Certificates { .. }
            | Error::Login { .. }
            | Error::Setup { .. } => 500,
        }
    }

    /// Whether the same request may fare better in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Error::Transport { cause, .. } => !cause.is_builder() && !cause.is_redirect(),
            Error::Stalled { .. } => true,
            Error::Refused(refusal) => is_passing_status(refusal.status),
            Error::NoToken { status, .. } => is_passing_status(*status),
            _ => false,
        }
    }
}

/// Whether a status says that the registry is busy or broken, not that the request is wrong.
pub(super) fn is_passing_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// A registry's answer that is no success.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which way the image was to go.
    pub direction: Direction,
    /// `Get`, `Put` …
    pub action: &'static str,
    /// Of what.
    pub url: String,
    /// The image.
    pub reference: Reference,
    /// The HTTP status.
    pub status: u16,
    /// The registry's own code, as in `MANIFEST_UNKNOWN`.
    pub code: Option<String>,
    /// The registry's own words.
    pub message: String,
}

impl Refusal {
    fn api_status(&self) -> u16 {
        match (self.status, self.code.as_deref(), self.direction) {
            (_, Some("MANIFEST_UNKNOWN" | "NAME_UNKNOWN"), _) => 404,
            // docker reports a repository that may not be seen as one that is not there.
            (_, Some("DENIED"), Direction::Pull) => 404,
            (_, Some("DENIED"), Direction::Push) => 403,
            (401 | 403 | 404, _, _) => self.status,
            _ => 500,
        }
    }

    /// `manifest unknown: manifest unknown`, as docker prints a registry's own error.
    fn own_words(&self) -> String {
        match &self.code {
            Some(code) if self.message.is_empty() => code.to_lowercase().replace('_', " "),
            Some(code) => format!(
                "{}: {}",
                code.to_lowercase().replace('_', " "),
                self.message
            ),
            None => self.message.clone(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.own_words();
        let name = self.reference.familiar_repository();
        match (self.direction, self.code.as_deref()) {
            (Direction::Pull, Some("DENIED")) => write!(
                f,
                "pull access denied for {name}, repository does not exist or may require 'docker login': {own}"
            ),
            (Direction::Pull, Some("MANIFEST_UNKNOWN")) => {
                write!(
                    f,
                    "manifest for {} not found: {own}",
                    self.reference.familiar()
                )
            }
            (Direction::Pull, Some("NAME_UNKNOWN")) => {
                write!(f, "repository {name} not found: {own}")
            }
            // As docker says it: which repository it is was told before.
            (Direction::Push, Some("DENIED" | "UNAUTHORIZED" | "NAME_UNKNOWN")) => {
                f.write_str(&own)
            }
            _ => write!(f, "{} \"{}\": {own}", self.action, self.url),
        }
    }
}

impl std::error::Error for Refusal {}

/// A registry's error document (distribution-spec, "Error Codes").
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorItem>,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// What a token server answers: OAuth's form (`error`), or a plain `details` or `message`.
#[derive(Deserialize)]
struct TokenErrorBody {
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    error_description: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// Characters of a registry's own words that are repeated to the user.
const MESSAGE_CHARS_MAX: usize = 500;

/// Finds the registry's code and words in an answer's body; where it has none, says the status.
pub(super) fn read_error_body(status: u16, body: &[u8]) -> (Option<String>, String) {
    if let Ok(ErrorBody { errors }) = serde_json::from_slice::<ErrorBody>(body)
        && let Some(first) = errors.into_iter().next()
        && let Some(code) = first.code
    {
        return (
            Some(clean(&code)),
            clean(&first.message.unwrap_or_default()),
        );
    }
    if let Ok(token) = serde_json::from_slice::<TokenErrorBody>(body)
        && let Some(words) = token.details.or(token.error_description).or(token.message)
    {
        return (None, clean(&words));
    }
    (None, status_words(status))
}

/// As in `received unexpected HTTP status: 500 Internal Server Error`.
pub(super) fn status_words(status: u16) -> String {
    let known = reqwest::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    match known {
        Some(reason) => format!("received unexpected HTTP status: {status} {reason}"),
        None => format!("received unexpected HTTP status: {status}"),
    }
}

/// ` Unauthorized`, as it stands behind 401.
fn reason(status: u16) -> String {
    let known = reqwest::StatusCode::from_u16(status).ok();
    let known = known.and_then(|status| status.canonical_reason());
    known.map_or_else(String::new, |reason| format!(" {reason}"))
}

/// Makes foreign words fit for a terminal and a log: no control characters, not endless.
fn clean(words: &str) -> String {
    words
        .chars()
        .filter(|c| !c.is_control())
        .take(MESSAGE_CHARS_MAX)
        .collect()
}

/// The last link of a chain of causes, which for connections is the one that says something.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &(dyn StdError + 'static) = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let Some(io) = cause.downcast_ref::<io::Error>() else {
        return cause.to_string();
    };
    match io.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        _ => io.to_string(),
    }
}
