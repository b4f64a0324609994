//! Who we are to a registry: challenges read, tokens fetched and kept. Never sends credentials where the registry did not ask for them.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

/// What the user gave for one registry.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// Nothing.
    #[default]
    Anonymous,
    /// A name and a password (or a personal access token).
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// What a token server gave in exchange for a password at login.
    IdentityToken(String),
    /// A bearer token to be used as it is.
    RegistryToken(String),
}

/// Shows which kind, never the secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Anonymous => f.write_str("Anonymous"),
            Credentials::Basic { username, .. } => write!(f, "Basic({username})"),
            Credentials::IdentityToken(_) => f.write_str("IdentityToken"),
            Credentials::RegistryToken(_) => f.write_str("RegistryToken"),
        }
    }
}

/// What a registry asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// A challenge as it came, with what it says of the request that it answers.
pub(super) struct Challenged {
    pub(super) challenge: Option<Challenge>,
    /// `insufficient_scope` or `invalid_token`, and the description (RFC 6750, section 3.1).
    pub(super) error: Option<(String, Option<String>)>,
}

/// How long a token lives that does not say so (distribution, token specification).
const TOKEN_SECONDS_DEFAULT: u64 = 60;
/// A token is renewed this long before it ends, so that it does not end under way.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
/// Bytes of a token server's answer; tokens are headers later, and servers take no longer ones.
pub(super) const TOKEN_BYTES_MAX: usize = 256 << 10;

struct Token {
    value: String,
    expires: Instant,
}

/// What is known of a registry's wishes, and the tokens in hand.
pub(super) struct Auth {
    pub(super) credentials: Credentials,
    /// Rank: a leaf; never held while waiting.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    challenge: Option<Challenge>,
    tokens: HashMap<String, Token>,
    /// What the token server gave to be kept.
    identity: Option<String>,
}

/// What to do before a request can be sent.
pub(super) enum Step {
    /// Send it, with this header if there is one.
    Send(Option<HeaderValue>),
    /// Fetch a token first.
    Fetch { realm: Url, service: Option<String> },
    /// It cannot be authorised.
    Missing(&'static str),
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Auth {
        Auth {
            credentials,
            state: Mutex::default(),
        }
    }

    /// Decides how a request for `scopes` is authorised, by what is known so far.
    pub(super) fn step(&self, scopes: &[String]) -> Step {
        if let Credentials::RegistryToken(token) = &self.credentials {
            return send("Bearer", token);
        }
        let state = self.state.lock();
        match &state.challenge {
            None => Step::Send(None),
            Some(Challenge::Basic) => match self.basic() {
                Some(basic) => send("Basic", &basic),
                None => Step::Missing("no basic auth credentials"),
            },
            Some(Challenge::Bearer { realm, service }) => match state.tokens.get(&scopes.join(" "))
            {
                Some(token) if token.expires > Instant::now() => send("Bearer", &token.value),
                _ => Step::Fetch {
                    realm: realm.clone(),
                    service: service.clone(),
                },
            },
        }
    }

    /// `username:password` in base64, if that is what the user gave.
    pub(super) fn basic(&self) -> Option<String> {
        let Credentials::Basic { username, password } = &self.credentials else {
            return None;
        };
        Some(base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}")))
    }

    /// Remembers what the registry asks for, and that the tokens for `scopes` are worth nothing.
    pub(super) fn learn(&self, challenge: Challenge, scopes: &[String]) {
        let mut state = self.state.lock();
        state.challenge = Some(challenge);
        state.tokens.remove(&scopes.join(" "));
    }

    /// Keeps a token.
    pub(super) fn keep(&self, scopes: &[String], answer: TokenAnswer) -> Result<(), &'static str> {
        let value = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty());
        let value = value.ok_or("authorization server did not include a token in the response")?;
        let lifetime = Duration::from_secs(
            answer
                .expires_in
                .unwrap_or_default()
                .clamp(TOKEN_SECONDS_DEFAULT, 86_400),
        );
        let now = Instant::now();
        let expires = now
            .checked_add(lifetime.saturating_sub(TOKEN_MARGIN))
            .unwrap_or(now);
        let mut state = self.state.lock();
        let refresh = answer.refresh_token.filter(|token| !token.is_empty());
        state.identity = refresh.or(state.identity.take());
        state
            .tokens
            .insert(scopes.join(" "), Token { value, expires });
        Ok(())
    }

    /// The identity token that the token server gave, if it did.
    pub(super) fn identity(&self) -> Option<String> {
        self.state.lock().identity.clone()
    }
}

fn send(scheme: &str, secret: &str) -> Step {
    match HeaderValue::try_from(format!("{scheme} {secret}")) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Step::Send(Some(value))
        }
        Err(_) => Step::Missing("the credentials have characters that no HTTP header can carry"),
    }
}

/// A token server's answer.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<String>,
}

/// Reads the challenges of a 401. Bearer wins over Basic, as in docker.
pub(super) fn read_challenges(headers: &HeaderMap) -> Challenged {
    let mut found = Challenged {
        challenge: None,
        error: None,
    };
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        let Ok(challenges) = http_auth::parse_challenges(text) else {
            continue;
        };
        for challenge in challenges {
            let param = |name: &str| {
                let named = challenge
                    .params
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name));
                named.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("basic") && found.challenge.is_none() {
                found.challenge = Some(Challenge::Basic);
            }
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if let Some(error) = param("error") {
                    found.error = Some((error, param("error_description")));
                }
                if let Some(realm) = param("realm").and_then(|realm| Url::parse(&realm).ok()) {
                    found.challenge = Some(Challenge::Bearer {
                        realm,
                        service: param("service"),
                    });
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn challenged(value: &str) -> Challenged {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        read_challenges(&headers)
    }

    #[test]
    fn bearer_wins_over_basic_and_keeps_its_service() {
        let found = challenged(
            r#"Basic realm="x", Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull",error="insufficient_scope""#,
        );
        let realm = Url::parse("https://auth.docker.io/token").unwrap();
        assert_eq!(
            found.challenge,
            Some(Challenge::Bearer {
                realm,
                service: Some("registry.docker.io".to_owned())
            })
        );
        assert_eq!(found.error, Some(("insufficient_scope".to_owned(), None)));
    }

    #[test]
    fn garbage_is_no_challenge() {
        for text in [
            "",
            "Bearer",
            "Bearer realm",
            "Bearer realm=\"not a url\"",
            "Negotiate abc==",
        ] {
            assert_eq!(challenged(text).challenge, None, "{text:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials::Basic {
            username: "me".to_owned(),
            password: "hunter2".to_owned(),
        };
        assert_eq!(format!("{credentials:?}"), "Basic(me)");
    }
}
