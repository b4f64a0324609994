//! The ports of a container in one cell: `0.0.0.0:80->80/tcp, 443/tcp`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::api::ContainerPort;

/// A run of consecutive ports that are published at the same numbers.
#[derive(Clone, Copy)]
struct Run {
    first: u16,
    last: u16,
}

impl Run {
    fn text(self) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        }
    }
}

/// Draws the ports; consecutive ones with equal numbers inside and outside
/// are drawn as one range, differing ones stand alone at the end.
pub(crate) fn ports(ports: &[ContainerPort]) -> String {
    let mut sorted = ports.to_vec();
    sorted.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.protocol).cmp(&(
            b.private_port,
            &b.ip,
            b.public_port,
            &b.protocol,
        ))
    });
    let mut open: BTreeMap<String, Run> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut ranges: Vec<String> = Vec::new();
    let mut alone: Vec<String> = Vec::new();
    for port in &sorted {
        let key = match port.public_port {
            Some(public) if public != port.private_port => {
                alone.push(format!(
                    "{}{public}->{}/{}",
                    address(&port.ip),
                    port.private_port,
                    port.protocol
                ));
                continue;
            }
            Some(_) => format!("{}/{}", address(&port.ip), port.protocol),
            None => format!("/{}", port.protocol),
        };
        match open.get_mut(&key) {
            Some(run) if port.private_port == run.last => {}
            Some(run) if Some(port.private_port) == run.last.checked_add(1) => {
                run.last = port.private_port;
            }
            Some(run) => {
                ranges.push(range(&key, *run));
                *run = Run {
                    first: port.private_port,
                    last: port.private_port,
                };
            }
            None => {
                order.push(key.clone());
                open.insert(
                    key,
                    Run {
                        first: port.private_port,
                        last: port.private_port,
                    },
                );
            }
        }
    }
    for key in order {
        if let Some(run) = open.get(&key) {
            ranges.push(range(&key, *run));
        }
    }
    ranges.extend(alone);
    ranges.join(", ")
}

fn address(ip: &str) -> String {
    match ip {
        "" => String::new(),
        ip if ip.contains(':') => format!("[{ip}]:"),
        ip => format!("{ip}:"),
    }
}

fn range(key: &str, run: Run) -> String {
    let (address, protocol) = key.rsplit_once('/').unwrap_or(("", key));
    let mut text = String::new();
    if !address.is_empty() && write!(text, "{address}{}->", run.text()).is_err() {
        // Writing to a String cannot fail.
        return text;
    }
    text.push_str(&run.text());
    text.push('/');
    text.push_str(protocol);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private: u16, public: Option<u16>) -> ContainerPort {
        ContainerPort {
            ip: ip.to_owned(),
            private_port: private,
            public_port: public,
            protocol: "tcp".to_owned(),
        }
    }

    #[test]
    fn published_and_exposed_ports() {
        let cell = ports(&[
            port("", 443, None),
            port("::", 80, Some(80)),
            port("0.0.0.0", 80, Some(80)),
        ]);
        assert_eq!(cell, "0.0.0.0:80->80/tcp, [::]:80->80/tcp, 443/tcp");
    }

    #[test]
    fn consecutive_ports_are_a_range_and_differing_ones_come_last() {
        let cell = ports(&[
            port("0.0.0.0", 70, Some(7000)),
            port("0.0.0.0", 8001, Some(8001)),
            port("0.0.0.0", 8000, Some(8000)),
            port("0.0.0.0", 8002, Some(8002)),
        ]);
        assert_eq!(
            cell,
            "0.0.0.0:8000-8002->8000-8002/tcp, 0.0.0.0:7000->70/tcp"
        );
    }
}
