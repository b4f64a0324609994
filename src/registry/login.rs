//! Whether a registry takes somebody's credentials. Keeps nothing.

use super::Result;
use super::call::Call;
use super::client::Client;
use super::error::{Direction, Error};
use super::send::shown;
use crate::reference::Reference;

impl Client {
    /// Asks the registry whether the credentials are good; returns the identity token if it gives one to be kept in
    /// place of the password.
    pub async fn log_in(&self) -> Result<Option<String>> {
        let address = || Error::Address(self.registry().to_owned());
        let any = Reference::parse(&format!("{}/nacre", self.registry())).map_err(|_| address())?;
        let url = self.base().await?.join("v2/").map_err(|_| address())?;
        let mut call = Call::new(Direction::Pull, &any, reqwest::Method::GET, url);
        call.unscoped = true;
        let answer = self.send_here(&call).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(Error::Login {
                url: shown(&call.url),
                status: status.as_u16(),
            });
        }
        Ok(self.0.auth.identity())
    }
}
