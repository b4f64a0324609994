//! `login` and `logout`: credentials for a registry, kept where docker keeps them.

use std::io::{IsTerminal as _, Read as _, stdin};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::Deserialize;

use crate::api::AuthConfig;
use crate::client::{Call, Route};
use crate::docker_config::{DockerConfig, HUB, Kept, Secret};
use crate::draw::{err, out};
use crate::error::{Error, Result};
use crate::reference::DEFAULT_DOMAIN;
use crate::session::Session;

/// A password from a pipe that is longer is none.
const PASSWORD_BYTES_MAX: u64 = 1 << 20;

/// The flags of `login`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] [SERVER]",
    after_help = "Examples:
  nacre login registry.example.com
  nacre login -u me --password-stdin 127.0.0.1:5000 < password.txt

Without SERVER it is docker.io. The credentials go to the helper that ~/.docker/config.json names
(credsStore, credHelpers), else into that file."
)]
pub(crate) struct Args {
    /// Username
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,

    /// Password or personal access token
    #[arg(short, long, value_name = "PASSWORD")]
    password: Option<String>,

    /// Take the password or personal access token from standard input
    #[arg(long)]
    password_stdin: bool,

    #[arg(hide = true)]
    server: Option<String>,
}

/// The arguments of `logout`.
#[derive(clap::Args)]
#[command(
    override_usage = "[SERVER]",
    after_help = "Examples:
  nacre logout registry.example.com"
)]
pub(crate) struct LogoutArgs {
    #[arg(hide = true)]
    server: Option<String>,
}

/// What the service answers.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Status", default)]
    status: String,
    #[serde(rename = "IdentityToken", default)]
    identity_token: String,
}

/// A registry as config.json names it, and its domain.
fn server(given: Option<&str>) -> (String, String) {
    match given.filter(|given| !given.is_empty()) {
        None | Some(DEFAULT_DOMAIN | HUB) => (HUB.to_owned(), DEFAULT_DOMAIN.to_owned()),
        Some(given) => {
            let bare = given.split_once("://").map_or(given, |(_, bare)| bare);
            let host = bare.split('/').next().unwrap_or(bare).to_owned();
            (host.clone(), host)
        }
    }
}

/// Logs in.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let password = password(&args)?;
    let (server, domain) = server(args.server.as_deref());
    if args.username.is_none()
        && password.is_none()
        && let Some(kept) = (session.hooks.credentials)(&domain)
        && (!kept.username.is_empty() && !kept.password.is_empty())
    {
        err(&format!(
            "Authenticating with existing credentials... [Username: {}]\n\n Info -> To login with a different account, \
             run 'nacre logout' followed by 'nacre login'\n\n\n",
            kept.username
        ));
        match check(session, &server, &kept.username, &kept.password).await {
            Ok(answer) => return keep(&server, &kept.username, &kept.password, &answer),
            Err(error) => err(&format!("Login did not succeed, error: {error}\n")),
        }
    }
    let (username, password) = match (args.username, password) {
        (Some(username), Some(password)) => (username, password),
        (username, password) => ask(username, password)?,
    };
    let answer = check(session, &server, &username, &password).await?;
    keep(&server, &username, &password, &answer)
}

/// The password that came by a flag or by standard input.
fn password(args: &Args) -> Result<Option<String>> {
    if args.username.as_deref() == Some("") {
        return Err(Error::said("username is empty"));
    }
    if let Some(password) = &args.password {
        if args.password_stdin {
            return Err(Error::said(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        if password.is_empty() {
            return Err(Error::said("password is empty"));
        }
        err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
        return Ok(Some(password.clone()));
    }
    if !args.password_stdin {
        return Ok(None);
    }
    if args.username.is_none() {
        return Err(Error::said(
            "the --password-stdin option requires --username to be set",
        ));
    }
    let mut text = String::new();
    stdin()
        .take(PASSWORD_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Error::io("cannot read the password", error))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Error::said("password is empty"));
    }
    Ok(Some(text.to_owned()))
}

/// Asks the user for what is missing.
fn ask(username: Option<String>, password: Option<String>) -> Result<(String, String)> {
    if !stdin().is_terminal() {
        return Err(Error::said(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    let username = match username {
        Some(username) => username,
        None => {
            out("Username: ")?;
            line()?
        }
    };
    if username.is_empty() {
        return Err(Error::said("Error: Non-null Username Required"));
    }
    let password = match password {
        Some(password) => password,
        None => {
            out("Password: ")?;
            let password = {
                let _silent = Silent::enter()?;
                line()
            };
            out("\n")?;
            password?
        }
    };
    if password.is_empty() {
        return Err(Error::said("Error: Password Required"));
    }
    Ok((username, password))
}

fn line() -> Result<String> {
    let mut text = String::new();
    stdin()
        .read_line(&mut text)
        .map_err(|error| Error::io("the terminal", error))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// The terminal without echo; dropped, it is as it was.
struct Silent(rustix::termios::Termios);

impl Silent {
    fn enter() -> Result<Silent> {
        let fail = |errno: rustix::io::Errno| Error::io("the terminal", errno.into());
        let before = tcgetattr(stdin()).map_err(fail)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Flush, &silent).map_err(fail)?;
        Ok(Silent(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        tcsetattr(stdin(), OptionalActions::Now, &self.0).unwrap_or_default();
    }
}

async fn check(session: &Session, server: &str, username: &str, password: &str) -> Result<Answer> {
    let auth = AuthConfig {
        username: username.to_owned(),
        password: password.to_owned(),
        serveraddress: server.to_owned(),
        ..AuthConfig::default()
    };
    let call = Call::post(Route::docker(&["auth"])).json(&auth)?;
    session.client.json(call).await
}

fn keep(server: &str, username: &str, password: &str, answer: &Answer) -> Result<()> {
    let secret = match answer.identity_token.as_str() {
        "" => Secret::Password { username, password },
        token => Secret::IdentityToken { username, token },
    };
    let kept = DockerConfig::read()?
        .store(server, &secret)
        .map_err(|error| Error::said(format!("Error saving credentials: {error}")))?;
    if let Kept::File(path) = kept {
        err(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\n\
             Configure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n\n",
            path.display()
        ));
    }
    out(&format!("{}\n", answer.status))
}

/// Logs out.
pub(crate) fn logout(args: &LogoutArgs) -> Result<()> {
    let (server, _) = server(args.server.as_deref());
    out(&format!("Removing login credentials for {server}\n"))?;
    let mut names = vec![server.clone()];
    if server != HUB {
        names.extend([format!("http://{server}"), format!("https://{server}")]);
    }
    DockerConfig::read()?
        .erase(&names)
        .map_err(|error| Error::said(format!("WARNING: could not erase credentials: {error}")))
}
