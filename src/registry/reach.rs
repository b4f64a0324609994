//! How registries are reached: which without verified TLS, through which proxy, by which mirror first. Decides; never connects.

use std::net::{IpAddr, ToSocketAddrs};

use reqwest::{NoProxy, Proxy, Url};

use super::client::is_loopback;
use crate::reference::Reference;

/// What is never reached by a proxy: a proxy's loopback is not ours.
const NEVER_PROXIED: &str = "localhost,127.0.0.0/8,::1";

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {value:?} {what}")]
pub struct InvalidSetting {
    /// The settings file's key.
    pub key: &'static str,
    /// Its value, or the part of it.
    pub value: String,
    /// What is wrong with it.
    pub what: &'static str,
}

fn invalid(key: &'static str, value: &str, what: &'static str) -> InvalidSetting {
    InvalidSetting {
        key,
        value: value.to_owned(),
        what,
    }
}

/// Registries that need no verified TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insecure {
    /// Exactly this `HOST` or `HOST:PORT`, as image names have it.
    Host(String),
    /// Every registry with an address in this network.
    Network(IpAddr, u8),
}

impl Insecure {
    /// Reads `HOST[:PORT]` or `ADDRESS/BITS`.
    pub fn parse(text: &str) -> Result<Insecure, InvalidSetting> {
        let key = "insecure-registries";
        if text.contains("://") {
            return Err(invalid(
                key,
                text,
                "has a scheme: give HOST, HOST:PORT or a network",
            ));
        }
        let Some((address, bits)) = text.split_once('/') else {
            let fits = !text.is_empty() && Url::parse(&format!("http://{text}/")).is_ok();
            return match fits {
                true => Ok(Insecure::Host(text.to_owned())),
                false => Err(invalid(key, text, "is no HOST or HOST:PORT")),
            };
        };
        let parsed = address
            .parse::<IpAddr>()
            .ok()
            .zip(bits.parse::<u8>().ok())
            .filter(|(address, bits)| *bits <= if address.is_ipv4() { 32 } else { 128 });
        match parsed {
            Some((address, bits)) => Ok(Insecure::Network(address, bits)),
            None => Err(invalid(key, text, "is no network as in 10.0.0.0/8")),
        }
    }

    fn holds(&self, domain: &str, addresses: &[IpAddr]) -> bool {
        match self {
            Insecure::Host(host) => host == domain,
            Insecure::Network(network, bits) => addresses
                .iter()
                .any(|address| is_within(*address, *network, *bits)),
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let wide = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, true),
        IpAddr::V6(v6) => (v6.to_bits(), false),
    };
    let ((a, a4), (b, b4)) = (wide(address.to_canonical()), wide(network));
    let mask = u128::MAX
        .checked_shl(128_u32.saturating_sub(u32::from(bits)))
        .unwrap_or(0);
    a4 == b4 && a & mask == b & mask
}

/// What stands between us and a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// TLS, verified.
    Verified,
    /// Without TLS; else TLS, which is verified only where certs.d knows the registry: it is this machine.
    Loopback,
    /// TLS, not verified; else without.
    Insecure,
    /// Without TLS, because a mirror's address says so.
    Plain,
}

/// Decides how a registry may be reached. Blocks where a name has to be resolved: only if networks are named.
pub(super) fn trust(domain: &str, insecure: &[Insecure]) -> Trust {
    let by_network = insecure
        .iter()
        .any(|entry| matches!(entry, Insecure::Network(..)));
    let addresses = if by_network {
        addresses_of(domain)
    } else {
        Vec::new()
    };
    if insecure.iter().any(|entry| entry.holds(domain, &addresses)) {
        return Trust::Insecure;
    }
    match is_loopback(domain) {
        true => Trust::Loopback,
        false => Trust::Verified,
    }
}

/// A name that cannot be resolved has no address: it may be one that only the proxy knows.
fn addresses_of(domain: &str) -> Vec<IpAddr> {
    let Ok(url) = Url::parse(&format!("https://{domain}/")) else {
        return Vec::new();
    };
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return vec![address];
    }
    let found = (bare, 443_u16).to_socket_addrs();
    found.map_or_else(
        |_| Vec::new(),
        |found| found.map(|address| address.ip()).collect(),
    )
}

/// The proxies in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    none: String,
}

impl Proxies {
    /// Reads the proxies for `http://` and `https://`, and the list of what is reached without.
    pub fn parse(
        http: Option<&str>,
        https: Option<&str>,
        none: Option<&str>,
    ) -> Result<Proxies, InvalidSetting> {
        let read = |key, text: Option<&str>| {
            let Some(text) = text.filter(|text| !text.is_empty()) else {
                return Ok(None);
            };
            // As for curl and docker, a proxy without a scheme speaks HTTP.
            let whole = match text.contains("://") {
                true => text.to_owned(),
                false => format!("http://{text}"),
            };
            match Url::parse(&whole) {
                Ok(url) if url.has_host() && matches!(url.scheme(), "http" | "https") => {
                    Ok(Some(url))
                }
                // It may hold a password: it is not repeated.
                _ => Err(invalid(key, "…", "is no http:// or https:// address")),
            }
        };
        Ok(Proxies {
            http: read("http-proxy", http)?,
            https: read("https-proxy", https)?,
            none: none.unwrap_or_default().to_owned(),
        })
    }

    /// What reqwest is told, in place of its own reading of the environment.
    pub(super) fn rules(&self) -> reqwest::Result<Vec<Proxy>> {
        let none = format!("{NEVER_PROXIED},{}", self.none);
        let http = self.http.iter().map(|url| Proxy::http(url.clone()));
        let https = self.https.iter().map(|url| Proxy::https(url.clone()));
        http.chain(https)
            .map(|proxy| Ok(proxy?.no_proxy(NoProxy::from_string(&none))))
            .collect()
    }

    /// As `info` shows them: for http, for https, and what goes without; no passwords.
    pub fn shown(&self) -> [String; 3] {
        let shown = |url: &Option<Url>| {
            let Some(mut url) = url.clone() else {
                return String::new();
            };
            if !url.username().is_empty() || url.password().is_some() {
                // It fails only for addresses that can have no user.
                url.set_username("xxxxx").ok();
                url.set_password(Some("xxxxx")).ok();
            }
            url.to_string()
        };
        [shown(&self.http), shown(&self.https), self.none.clone()]
    }
}

/// One place that stands in for a part of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorAt {
    /// A registry, or a registry and the beginning of a path.
    prefix: String,
    /// The mirror's registry.
    pub(super) domain: String,
    /// What its paths begin with.
    path: String,
    /// Whether its address begins with `http://`.
    pub(super) plain: bool,
}

impl MirrorAt {
    /// Reads what stands in for a prefix: `HOST[:PORT][/PATH]`, with `https://` or `http://` before it or not.
    pub fn parse(prefix: &str, location: &str) -> Result<MirrorAt, InvalidSetting> {
        let key = "mirror";
        let (plain, rest) = match location.split_once("://") {
            Some(("http", rest)) => (true, rest),
            Some(("https", rest)) => (false, rest),
            Some(_) => {
                return Err(invalid(
                    key,
                    location,
                    "has a scheme that is neither http nor https",
                ));
            }
            None => (false, location),
        };
        let rest = rest.trim_end_matches('/');
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = |name: &str, domain: &str| {
            Reference::parse(&format!("{name}/x")).is_ok_and(|parsed| parsed.domain() == domain)
        };
        if !fits(rest, domain) {
            let what = "is no place for images: give HOST:PORT, HOST.DOMAIN or these with a path";
            return Err(invalid(key, location, what));
        }
        let prefix = prefix.trim_end_matches('/');
        if !fits(prefix, prefix.split('/').next().unwrap_or_default()) {
            let what = "does not begin with a registry, as docker.io/library does";
            return Err(invalid(key, prefix, what));
        }
        Ok(MirrorAt {
            prefix: prefix.to_owned(),
            domain: domain.to_owned(),
            path: path.to_owned(),
            plain,
        })
    }

    /// The same image at this mirror, if it stands in for it.
    pub(super) fn rewrite(&self, reference: &Reference) -> Option<Reference> {
        let full = format!("{}/{}", reference.domain(), reference.path());
        let rest = full.strip_prefix(&self.prefix)?;
        let rest = match rest.strip_prefix('/') {
            Some(rest) => rest,
            None if rest.is_empty() => "",
            // `docker.io/lib` is no prefix of `docker.io/library/x`.
            None => return None,
        };
        let parts = [self.domain.as_str(), self.path.as_str(), rest];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let name = Reference::parse(&parts.join("/")).ok()?;
        (name.domain() == self.domain).then_some(name)
    }

    /// As `info` shows it.
    pub fn shown(&self) -> String {
        let scheme = if self.plain { "http://" } else { "" };
        let slash = if self.path.is_empty() { "" } else { "/" };
        format!(
            "{} → {scheme}{}{slash}{}",
            self.prefix, self.domain, self.path
        )
    }

    /// Whether it stands in for all of a registry, and its address.
    pub fn of_registry(&self, domain: &str) -> Option<String> {
        let scheme = if self.plain { "http" } else { "https" };
        (self.prefix == domain).then(|| format!("{scheme}://{}/{}", self.domain, self.path))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn insecure(entries: &[&str]) -> Vec<Insecure> {
        entries
            .iter()
            .map(|entry| Insecure::parse(entry).unwrap())
            .collect()
    }

    #[test]
    fn insecure_registries_are_hosts_and_networks() {
        let all = insecure(&["r.lan:5000", "10.0.0.0/8", "fd00::/8"]);
        for domain in ["r.lan:5000", "10.1.2.3:80", "10.9.9.9", "[fd00::1]:5000"] {
            assert_eq!(trust(domain, &all), Trust::Insecure, "{domain}");
        }
        for domain in ["11.0.0.1:80", "[fe00::1]:5000", "docker.invalid"] {
            assert_eq!(trust(domain, &all), Trust::Verified, "{domain}");
        }
        assert_eq!(trust("127.0.0.1:5000", &all), Trust::Loopback);
        assert_eq!(
            trust("127.0.0.1:5000", &insecure(&["0.0.0.0/0"])),
            Trust::Insecure
        );
        for bad in ["http://r", "10.0.0.0/33", "10.0.0/8", "a/b", "", "r:x"] {
            assert!(Insecure::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mirror_replaces_its_prefix_and_nothing_else() {
        let rewritten = |prefix: &str, location: &str, name: &str| {
            let mirror = MirrorAt::parse(prefix, location).unwrap();
            let name = mirror.rewrite(&Reference::parse(name).unwrap())?;
            Some(format!("{}/{}", name.domain(), name.path()))
        };
        for (prefix, location, name, expected) in [
            (
                "docker.io/library",
                "m:5/hub",
                "debian",
                Some("m:5/hub/debian"),
            ),
            ("docker.io/library", "m:5", "debian", Some("m:5/debian")),
            (
                "docker.io",
                "http://m:5/",
                "debian",
                Some("m:5/library/debian"),
            ),
            ("docker.io/library/debian", "m:5/d", "debian", Some("m:5/d")),
            ("docker.io/lib", "m:5", "debian", None),
            ("q.io", "m:5", "debian", None),
            ("q.io:5", "m.lan", "q.io:5/a/b", Some("m.lan/a/b")),
        ] {
            assert_eq!(
                rewritten(prefix, location, name).as_deref(),
                expected,
                "{prefix} {location} {name}"
            );
        }
        for (prefix, location) in [
            ("docker.io", "m"),
            ("docker.io", "ftp://m:5"),
            ("docker.io", "m:5/UPPER"),
            ("library", "m:5"),
            ("docker.io", ""),
        ] {
            assert!(
                MirrorAt::parse(prefix, location).is_err(),
                "{prefix} {location}"
            );
        }
    }

    #[test]
    fn proxies_are_shown_without_their_passwords() {
        let proxies = Proxies::parse(Some("me:secret@p.lan:3128"), Some(""), Some("a,b")).unwrap();
        let [http, https, none] = proxies.shown();
        assert_eq!(http, "http://xxxxx:xxxxx@p.lan:3128/");
        assert_eq!((https.as_str(), none.as_str()), ("", "a,b"));
        for bad in ["ftp://p", "http://", "socks5://p:1"] {
            assert!(Proxies::parse(None, Some(bad), None).is_err(), "{bad}");
        }
    }
}
