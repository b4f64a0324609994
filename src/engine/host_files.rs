//! The three files that the engine writes for a container and that are bound over its own: hosts, hostname,
//! resolv.conf. With the host's network they are the host's; docker does the same.

use std::fs;
use std::path::Path;

use super::container::{Container, Files};
use super::error::{Error, Result};
use crate::runtime::spec::Network;

/// Longest file of the host that is taken over.
const HOST_FILE_BYTES_MAX: usize = 1 << 20;

/// Writes them, and makes the directory that they are in.
pub(crate) fn write(files: &Files, document: &Container) -> Result<()> {
    fs::create_dir_all(files.dir()).map_err(Error::io("cannot make", files.dir()))?;
    let hostname = super::start::hostname_seen(document, &document.hostname());
    put(&files.hostname(), &format!("{hostname}\n"))?;
    put(&files.hosts(), &hosts(document, &hostname))?;
    put(&files.resolv_conf(), &resolv_conf(document))
}

fn put(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content).map_err(Error::io("cannot write", path))
}

/// A file of the host, empty if it cannot be read: a container without name servers is still one.
fn of_host(path: &str) -> String {
    let content = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(content.get(..HOST_FILE_BYTES_MAX).unwrap_or(&content)).into_owned()
}

fn hosts(document: &Container, hostname: &str) -> String {
    let mut text = match document.host.network {
        Network::Host => of_host("/etc/hosts"),
        Network::None => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                          ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
            .to_owned(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if document.host.network == Network::None {
        text.push_str(&format!("127.0.0.1\t{hostname}\n"));
    }
    for entry in &document.host.extra_hosts {
        let Some((name, address)) = entry.split_once([':', '=']) else {
            continue;
        };
        let address = if address == "host-gateway" {
            "127.0.0.1"
        } else {
            address
        };
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text
}

/// The host's, but for what was asked for. A local resolver of the host is out of reach without its network,
/// but then so is every other.
fn resolv_conf(document: &Container) -> String {
    let host = &document.host;
    let mut text = String::new();
    for line in of_host("/etc/resolv.conf").lines() {
        let replaced = match line.split_whitespace().next() {
            Some("nameserver") => !host.dns.is_empty(),
            Some("search" | "domain") => !host.dns_search.is_empty(),
            Some("options") => !host.dns_options.is_empty(),
            _ => false,
        };
        if !replaced {
            text.push_str(line);
            text.push('\n');
        }
    }
    for server in &host.dns {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !host.dns_search.is_empty() {
        text.push_str(&format!("search {}\n", host.dns_search.join(" ")));
    }
    if !host.dns_options.is_empty() {
        text.push_str(&format!("options {}\n", host.dns_options.join(" ")));
    }
    text
}
