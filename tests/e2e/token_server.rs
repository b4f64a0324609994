//! A token server of a test's own, as docker-registry wants it: tokens signed by a key that openssl made, and a log of who
//! asked for what, and how.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::edges_auth::openssl;
use crate::patience;

/// What docker-registry and the tokens call each other.
const NAME: &str = "tests";
/// docker-registry takes a token for this long after its end.
const LEEWAY: u64 = 60;
/// `me:secret`
const PASSWORD: &str = "Basic bWU6c2VjcmV0";
/// What is given in place of the password.
pub(crate) const REFRESH: &str = "given-once-and-kept";

/// One request for a token.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) authorization: Option<String>,
}

impl Asked {
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let mut params = self.params.iter();
        let found = params.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

pub(crate) struct TokenServer {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    /// Seconds for which a token is good, whatever is said with it.
    lifetime: Mutex<u64>,
    asked: Mutex<Vec<Asked>>,
}

impl TokenServer {
    /// Starts one that keeps its key in `dir`; it ends with the test's process.
    pub(crate) fn start(dir: &Path) -> Self {
        openssl(
            dir,
            "req -x509 -newkey rsa:2048 -nodes -keyout token.key -out token.crt -subj /CN=tests -days 2",
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap().to_string(),
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                lifetime: Mutex::new(3600),
                asked: Mutex::default(),
            }),
        };
        let shared = server.shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || answer(client, &shared));
            }
        });
        server
    }

    /// The section of a registry's configuration that believes this server.
    pub(crate) fn section(&self) -> String {
        format!(
            "auth: {{token: {{realm: 'http://{}/token', service: {NAME}, issuer: {NAME}, rootcertbundle: '{}'}}}}",
            self.address,
            self.shared.dir.join("token.crt").display()
        )
    }

    pub(crate) fn set_lifetime(&self, seconds: u64) {
        *self.shared.lifetime.lock().unwrap() = seconds;
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.shared.asked.lock().unwrap())
    }
}

/// Reads one request and answers it. `None`: the client went away.
fn answer(mut client: TcpStream, shared: &Shared) -> Option<()> {
    let asked = read(&mut client)?;
    shared.asked.lock().unwrap().push(asked.clone());
    let user = match (asked.method.as_str(), asked.authorization.as_deref()) {
        ("POST", _) => (asked.param("refresh_token") == Some(REFRESH)).then_some("me"),
        (_, Some(given)) => (given == PASSWORD).then_some("me"),
        (_, None) => Some(""),
    };
    let (status, body) = match user {
        None => (401, json!({"details": "incorrect username or password"})),
        Some(user) => {
            let token = token(shared, user, &asked);
            let mut body = json!({"token": token, "access_token": token, "expires_in": 300});
            if asked.param("offline_token") == Some("true") && user == "me" {
                body["refresh_token"] = json!(REFRESH);
            }
            (200, body)
        }
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).ok()
}

fn read(client: &mut TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let query = match method.as_str() {
        "POST" => String::from_utf8(body).unwrap(),
        _ => target
            .split_once('?')
            .map_or("", |(_, query)| query)
            .to_owned(),
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    Some(Asked {
        method,
        params: pairs.map(|(k, v)| (decoded(k), decoded(v))).collect(),
        authorization,
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(plain).unwrap()
}

/// Everybody may pull what has `public` in its name; `me` may do everything.
fn token(shared: &Shared, user: &str, asked: &Asked) -> String {
    let scopes = asked.params.iter().filter(|(name, _)| name == "scope");
    let scopes = scopes.flat_map(|(_, scopes)| scopes.split(' '));
    let access = scopes.filter_map(|scope| {
        let mut parts = scope.splitn(3, ':');
        let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
        let allowed = actions
            .split(',')
            .filter(|action| user == "me" || (*action == "pull" && name.contains("public")));
        let allowed: Vec<&str> = allowed.collect();
        (!allowed.is_empty()).then(|| json!({"type": kind, "name": name, "actions": allowed}))
    });
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let certificate = fs::read_to_string(shared.dir.join("token.crt")).unwrap();
    let certificate: String = certificate
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let claims = json!({
        "iss": NAME, "aud": NAME, "sub": user, "jti": "1",
        "iat": now - 3600, "nbf": now - 3600, "exp": now + *shared.lifetime.lock().unwrap() - LEEWAY,
        "access": access.collect::<Vec<_>>(),
    });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(head), part(claims));
    let signature = sign(&shared.dir, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn sign(dir: &Path, text: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign", "token.key"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = patience::ended(child, "openssl dgst", patience::PROGRAM);
    assert!(output.status.success());
    output.stdout
}

/// What docker's config.json holds after a login that gave a token to keep.
pub(crate) fn kept_login(registry: &str) -> String {
    let auth = STANDARD.encode("me:");
    json!({"auths": {registry: {"auth": auth, "identitytoken": REFRESH}}}).to_string()
}
