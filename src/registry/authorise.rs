//! Requests that say who we are: the header before, the token where it is asked for, the second try after a 401. Never
//! tells a stranger.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, Url};

use super::Result;
use super::auth::{self, Challenge, Credentials, Step};
use super::call::Call;
use super::client::Client;
use super::error::{self, Error};
use super::send::{Answered, shown};

impl Client {
    /// Sends a request once to each mirror in turn, then to the registry itself.
    pub(super) async fn send_authorised(&self, call: &Call<'_>) -> Result<Answered> {
        if let Some(answered) = self.ask_mirrors(call).await {
            return Ok(answered);
        }
        let response = self.send_here(&self.settled(call).await?).await?;
        Ok(Answered {
            response,
            mirror: None,
        })
    }

    /// Sends a request once; a 401 makes it look for a (new) token and send it once more.
    pub(super) async fn send_here(&self, call: &Call<'_>) -> Result<Response> {
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
            if !joined.is_empty() {
                fields.push(("scope", joined.as_str()));
            }
            fields.push(("client_id", "nacre"));
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
            if call.unscoped {
                // A login: what comes may be kept in place of the password.
                fields.extend([("offline_token", "true"), ("client_id", "nacre")]);
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
                status => Error::NoToken {
                    realm: shown(realm),
                    status,
                    words,
                },
            });
        }
        let answer = serde_json::from_slice(&body)
            .map_err(|error| self.breach(format!("unreadable token from {realm}: {error}")))?;
        auth.keep(scopes, answer)
            .map_err(|what| self.breach(what.to_owned()))
    }

    fn unauthorised(&self, call: &Call<'_>, reason: String) -> Error {
        Error::Unauthorized {
            action: call.action(),
            url: shown(&call.url),
            reason,
        }
    }
}

/// Encodes a form (application/x-www-form-urlencoded), as a URL's query is.
fn form(fields: &[(&str, &str)]) -> String {
    let Ok(mut url) = Url::parse("http://form/") else {
        return String::new();
    };
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}
