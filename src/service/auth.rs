//! `POST /auth`: whether a registry takes the credentials that a user wants to keep. Keeps none itself.

use nacre_cli::api;
use serde_json::json;

use super::answer::{self, Outcome};
use super::call::{self, Call};
use crate::engine::Error;
use crate::reference::DEFAULT_DOMAIN;
use crate::registry::Client;
use crate::registry::credentials::of_docker;
use crate::transfer;

/// Logs in, and says what to keep in place of the password, if the registry wants that.
pub(crate) async fn log_in(mut call: Call) -> Outcome {
    let mut auth: api::AuthConfig = call.json().await?;
    let domain = domain_of(&std::mem::take(&mut auth.serveraddress));
    let credentials = of_docker(auth).ok_or_else(|| Error::invalid("invalid credentials"))?;
    let about = call.about.clone();
    let client = call::blocking(move || {
        let client = Client::new(&domain, credentials, about.registries.clone());
        Ok(client.map_err(transfer::Error::from)?)
    })
    .await?;
    let token = client.log_in().await.map_err(transfer::Error::from)?;
    answer::json(&json!({
        "Status": "Login Succeeded",
        "IdentityToken": token.unwrap_or_default(),
    }))
}

/// The registry of a server's address: `https://HOST/v1/`, `HOST`, or nothing for docker's own.
fn domain_of(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN.to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_address_names_a_registry() {
        for (address, domain) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://r.lan:5/v2/", "r.lan:5"),
        ] {
            assert_eq!(domain_of(address), domain);
        }
    }
}
