//! Private certificate authorities and client certificates, in docker's layout: `DIR/HOST[:PORT]/*.crt` and pairs of
//! `*.cert` and `*.key`. Reads them; never writes.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, Identity};

/// What a directory holds for one registry.
#[derive(Default)]
pub(super) struct Certificates {
    roots: Vec<Certificate>,
    identity: Option<Identity>,
    /// Whether there is a directory for the registry.
    pub(super) known: bool,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableCertificate {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its content is something else.
    #[error("{} holds no {what} in PEM", path.display())]
    Garbage {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// A certificate without its key.
    #[error(
        "missing key {key} for client certificate {cert}: CA certificates must use the extension .crt"
    )]
    NoKey {
        /// The certificate's file.
        cert: String,
        /// The key's file.
        key: String,
    },
    /// A key without its certificate.
    #[error("missing client certificate {cert} for key {key}")]
    NoCertificate {
        /// The certificate's file.
        cert: String,
        /// The key's file.
        key: String,
    },
}

type Result<T> = std::result::Result<T, UnusableCertificate>;

impl Certificates {
    /// Reads what the directories hold for a registry; of several client certificates the first one, by directory and name.
    pub(super) fn read(dirs: &[PathBuf], domain: &str) -> Result<Certificates> {
        let mut all = Certificates::default();
        for dir in dirs {
            let dir = dir.join(domain);
            let unreadable = |source| UnusableCertificate::Unreadable {
                path: dir.clone(),
                source,
            };
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
                {
                    continue;
                }
                Err(error) => return Err(unreadable(error)),
            };
            let entries: io::Result<Vec<_>> = entries.map(|e| e.map(|e| e.path())).collect();
            let mut files = entries.map_err(unreadable)?;
            files.sort();
            all.known = true;
            for file in &files {
                all.add(file)?;
            }
        }
        Ok(all)
    }

    fn add(&mut self, file: &Path) -> Result<()> {
        let name = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        match file.extension().and_then(OsStr::to_str) {
            Some("crt") => {
                let roots = Certificate::from_pem_bundle(&read(file)?);
                self.roots
                    .extend(roots.map_err(garbage(file, "certificate"))?);
            }
            Some("cert") => {
                let key = file.with_extension("key");
                if !key.exists() {
                    return Err(UnusableCertificate::NoKey {
                        cert: name(file),
                        key: name(&key),
                    });
                }
                if self.identity.is_none() {
                    let mut pem = read(file)?;
                    pem.push(b'\n');
                    pem.extend(read(&key)?);
                    let what = "client certificate with its key";
                    self.identity = Some(Identity::from_pem(&pem).map_err(garbage(file, what))?);
                }
            }
            Some("key") if !file.with_extension("cert").exists() => {
                return Err(UnusableCertificate::NoCertificate {
                    cert: name(&file.with_extension("cert")),
                    key: name(file),
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds them to what the system trusts.
    pub(super) fn apply(self, mut builder: ClientBuilder) -> ClientBuilder {
        if !self.roots.is_empty() {
            builder = builder.tls_certs_merge(self.roots);
        }
        match self.identity {
            Some(identity) => builder.identity(identity),
            None => builder,
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| UnusableCertificate::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn garbage(path: &Path, what: &'static str) -> impl FnOnce(reqwest::Error) -> UnusableCertificate {
    move |source| UnusableCertificate::Garbage {
        path: path.to_owned(),
        what,
        source,
    }
}

/// What to say where a registry's certificate is refused; `None` if it is not for that reason that a request failed.
pub(super) fn refused(cause: &reqwest::Error, domain: &str, dirs: &[PathBuf]) -> Option<String> {
    let mut link: &(dyn std::error::Error + 'static) = cause;
    loop {
        // Between HTTP and TLS stands an I/O error, whose source is its own content's source.
        let inner = link
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(error) = inner.or_else(|| link.downcast_ref::<rustls::Error>()) {
            let rustls::Error::InvalidCertificate(what) = error else {
                return None;
            };
            let place = dirs.first().map_or_else(
                || "a directory of certs-dirs".to_owned(),
                |dir| dir.join(domain).join("ca.crt").display().to_string(),
            );
            let unknown = matches!(what, rustls::CertificateError::UnknownIssuer);
            return Some(match unknown {
                true => format!(
                    "the certificate of {domain} is signed by an unknown authority: put the authority's certificate \
                     into {place}, or name {domain} in insecure-registries"
                ),
                false => format!("the certificate of {domain} is not valid: {what}"),
            });
        }
        link = link.source()?;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn said(files: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("r:5000");
        fs::create_dir(&host).unwrap();
        for (name, content) in files {
            fs::write(host.join(name), content).unwrap();
        }
        match Certificates::read(&[dir.path().to_owned()], "r:5000") {
            Ok(found) => format!("{} {}", found.known, found.roots.len()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn pairs_must_be_whole_and_files_must_hold_what_they_say() {
        assert_eq!(said(&[("README", "x")]), "true 0");
        assert!(said(&[("a.cert", "x")]).starts_with("missing key a.key for client certificate"));
        assert_eq!(
            said(&[("a.key", "x")]),
            "missing client certificate a.cert for key a.key"
        );
        assert!(said(&[("a.cert", "x"), ("a.key", "y")]).contains("a.cert holds no client"));
        let none = Certificates::read(&["/no/such".into()], "r:5000").unwrap();
        assert!(!none.known);
    }
}
