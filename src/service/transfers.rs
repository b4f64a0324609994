//! The routes that move images: pull, push, load, save, import.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use nacre_cli::api;
use serde_json::json;
use tokio::sync::mpsc;

use super::About;
use super::answer::{self, Outcome};
use super::call::{self, Call};
use super::progress::{self, Sink};
use crate::engine::{Engine, Error, ImportRequest, LocalSource, image};
use crate::reference::Reference;
use crate::registry::credentials::of_docker;
use crate::registry::{Client, Credentials, Direction, Platform};
use crate::transfer::{Pulled, status_line, tell_repository};

/// base64url as docker's clients write it, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// Bytes of an archive that are sent at once.
const CHUNK_BYTES: usize = 128 << 10;

/// Reads the credentials that came with a request; none if the header is missing.
pub(super) fn credentials(headers: &HeaderMap) -> Result<Option<Credentials>, Error> {
    let Some(value) = headers.get(api::REGISTRY_AUTH_HEADER) else {
        return Ok(None);
    };
    let bad = || Error::invalid(format!("invalid {} header", api::REGISTRY_AUTH_HEADER));
    if value.is_empty() {
        return Ok(None);
    }
    let decoded = BASE64.decode(value.as_bytes()).map_err(|_| bad())?;
    let auth: api::AuthConfig = serde_json::from_slice(&decoded).map_err(|_| bad())?;
    of_docker(auth).map(Some).ok_or_else(bad)
}

/// Reads `os/arch[/variant]`, or docker's JSON object for it.
fn platform(call: &Call) -> Result<Option<Platform>, Error> {
    let Some(text) = call.params.some("platform") else {
        return Ok(None);
    };
    if text.starts_with('{') {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("invalid platform: {e}")))?;
        let field = |key: &str| {
            value
                .get(key)
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default()
        };
        let variant = Some(field("variant")).filter(|variant| !variant.is_empty());
        return Ok(Some(Platform::normal(
            field("os"),
            field("architecture"),
            variant,
        )));
    }
    Platform::parse(text)
        .map(Some)
        .map_err(|e| Error::invalid(e.to_string()))
}

/// `POST /images/create`: a pull, or an import.
pub(crate) async fn create(call: Call) -> Outcome {
    match (call.params.some("fromImage"), call.params.some("fromSrc")) {
        (Some(_), _) => pull(call).await,
        (None, Some("-")) => import(call).await,
        (None, Some(_)) => Err(Error::unsupported(
            "nacre imports what is sent to it: fetch the URL and import it from a file or -",
        )),
        (None, None) => Err(Error::invalid("neither fromImage nor fromSrc is given")),
    }
}

async fn pull(call: Call) -> Outcome {
    let invalid = |e: crate::reference::InvalidReference| Error::invalid(e.to_string());
    let name = Reference::parse(call.params.text("fromImage")).map_err(invalid)?;
    let name = match call.params.some("tag") {
        Some(tag) if tag.contains(':') => name.with_digest(
            tag.parse()
                .map_err(|_| Error::invalid("invalid reference format"))?,
        ),
        Some(tag) => name.with_tag(tag).map_err(invalid)?,
        None => name,
    };
    let (platform, given) = (platform(&call)?, credentials(&call.headers)?);
    let (engine, about) = (Arc::clone(&call.engine), Arc::clone(&call.about));
    progress::stream(|sink| async move {
        let client = client(&engine, &about, &name, given, Direction::Pull).await?;
        let platform = platform.as_ref();
        if name.tag().is_some() || name.digest().is_some() {
            let pulled = pull_one(&engine, &client, &name, platform, &sink).await?;
            sink.line(api::Progress::status(pulled.status_line()));
            return Ok(());
        }
        let tags = client.tags(&name).await;
        let mut updated = false;
        for tag in tags.map_err(crate::transfer::Error::from)? {
            let Ok(name) = name.with_tag(&tag) else {
                continue;
            };
            let pulled = pull_one(&engine, &client, &name, platform, &sink).await?;
            updated |= pulled.updated;
        }
        // docker says what became of the repository, once.
        let repository = name.familiar_repository();
        sink.line(api::Progress::status(status_line(&repository, updated)));
        Ok(())
    })
    .await
}

pub(super) async fn client(
    engine: &Arc<Engine>,
    about: &Arc<About>,
    name: &Reference,
    given: Option<Credentials>,
    direction: Direction,
) -> Result<Client, Error> {
    let (engine, about, name) = (Arc::clone(engine), Arc::clone(about), name.clone());
    call::blocking(move || engine.registry_client(&name, given, &about.registries, direction)).await
}

async fn pull_one(
    engine: &Engine,
    client: &Client,
    name: &Reference,
    platform: Option<&Platform>,
    sink: &Sink,
) -> Result<Pulled, Error> {
    let pulled = engine.pull(client, name, platform, sink.progress()).await?;
    sink.line(api::Progress::status(pulled.digest_line()));
    sink.names(
        &pulled.image,
        pulled.reference.as_ref().map(Reference::familiar),
    );
    Ok(pulled)
}

async fn import(mut call: Call) -> Outcome {
    let name = match call.params.some("repo") {
        Some(repository) => Some(image::target_name(repository, call.params.text("tag"))?),
        None => None,
    };
    let request = ImportRequest {
        name,
        comment: call.params.text("message").to_owned(),
        changes: call.params.all("changes"),
        platform: platform(&call)?,
    };
    let body = call.reader();
    let engine = Arc::clone(&call.engine);
    progress::stream(|sink| async move {
        call::blocking(move || {
            let id = engine.import(body, &request)?;
            let name = request.name.as_ref().map(Reference::familiar);
            sink.names(&id, name);
            sink.line(api::Progress::status(id.to_string()));
            Ok(())
        })
        .await
    })
    .await
}

pub(crate) async fn push(call: Call, name: String) -> Outcome {
    let invalid = |e: crate::reference::InvalidReference| Error::invalid(e.to_string());
    let repository = Reference::parse(&name).map_err(invalid)?;
    if repository.digest().is_some() {
        return Err(Error::invalid("cannot push a digest reference"));
    }
    let tag = call.params.some("tag").or(repository.tag());
    let tag = tag.map(str::to_owned);
    let (platform, given) = (platform(&call)?, credentials(&call.headers)?);
    let (engine, about) = (Arc::clone(&call.engine), Arc::clone(&call.about));
    progress::stream(|sink| async move {
        // docker tells where it goes before it looks whether there is anything to push.
        tell_repository(&repository, &*sink.progress());
        let (finding, wanted) = (Arc::clone(&engine), repository.clone());
        let names = call::blocking(move || finding.names_to_push(&wanted, tag.as_deref())).await?;
        let client = client(&engine, &about, &repository, given, Direction::Push).await?;
        for name in names {
            let progress = sink.progress();
            let pushed = engine
                .push(&client, &name, platform.as_ref(), progress)
                .await?;
            sink.line(api::Progress::status(pushed.line()));
            let tag = pushed.reference.tag().unwrap_or_default();
            let aux = json!({"Tag": tag, "Digest": pushed.digest.to_string(), "Size": pushed.size});
            sink.line(api::Progress::aux(aux));
        }
        Ok(())
    })
    .await
}

pub(crate) async fn load(mut call: Call) -> Outcome {
    let quiet = call.params.flag("quiet", false);
    let platform = platform(&call)?;
    let body = call.reader();
    let engine = Arc::clone(&call.engine);
    progress::stream(|sink| async move {
        call::blocking(move || {
            let silent = |_: crate::transfer::Event| ();
            let told = sink.progress();
            let progress: &dyn crate::transfer::Progress = if quiet { &silent } else { &*told };
            for loaded in engine.load(body, platform.as_ref(), progress)? {
                for line in loaded.lines() {
                    sink.line(api::Progress::text(format!("{line}\n")));
                }
                sink.names(&loaded.image, loaded.names.first().map(Reference::familiar));
            }
            Ok(())
        })
        .await
    })
    .await
}

/// `POST /nacre/pull`: from a directory or a file of the host.
pub(crate) async fn pull_local(call: Call) -> Outcome {
    let source = LocalSource::parse(call.params.text("source"))?;
    let platform = platform(&call)?;
    let engine = Arc::clone(&call.engine);
    progress::stream(|sink| async move {
        call::blocking(move || {
            let progress = sink.progress();
            for (id, names) in engine.pull_local(&source, platform.as_ref(), &*progress)? {
                let shown = names
                    .first()
                    .map_or_else(|| id.to_string(), Reference::familiar);
                sink.line(api::Progress::status(format!("Status: Stored {shown}")));
                sink.names(&id, names.first().map(Reference::familiar));
            }
            Ok(())
        })
        .await
    })
    .await
}

pub(crate) async fn save(call: Call) -> Outcome {
    let names = call.params.all("names");
    let names: Vec<String> = names
        .iter()
        .flat_map(|names| names.split(','))
        .map(str::to_owned)
        .collect();
    save_all(call, names).await
}

pub(crate) async fn save_one(call: Call, name: String) -> Outcome {
    save_all(call, vec![name]).await
}

async fn save_all(call: Call, names: Vec<String>) -> Outcome {
    if names.is_empty() {
        return Err(Error::invalid("no images to save"));
    }
    let images = call.work(move |engine| engine.to_save(&names)).await?;
    let (to, from) = mpsc::channel::<io::Result<Bytes>>(16);
    let engine = Arc::clone(&call.engine);
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(CHUNK_BYTES, Chunks(to.clone()));
        let saved = engine
            .save(&images, &mut out)
            .map_err(|error| io::Error::other(answer::chain(&error)));
        if let Err(error) = saved.and_then(|()| out.flush()) {
            tracing::warn!(%error, "a save was broken off");
            // The body ends with an error, so that the client sees a broken stream and not a short archive.
            drop(to.blocking_send(Err(error)));
        }
    });
    let chunks =
        futures_util::stream::unfold(
            from,
            |mut from| async move { Some((from.recv().await?, from)) },
        );
    Ok(answer::streamed("application/x-tar", chunks))
}

pub(crate) async fn export(call: Call, name: String) -> Outcome {
    call.work(move |engine| engine.container(&name).map(drop))
        .await?;
    Err(Error::unsupported(
        "nacre does not export containers yet: commit it and save the image",
    ))
}

/// Writes into a body.
struct Chunks(mpsc::Sender<io::Result<Bytes>>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that a route names must be absolute: the service stands elsewhere than the client.
pub(crate) fn absolute(path: &str) -> Result<PathBuf, Error> {
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(Error::invalid(format!("{path:?} is not an absolute path")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn given(text: &str) -> Option<Credentials> {
        let mut headers = HeaderMap::new();
        headers.insert(
            api::REGISTRY_AUTH_HEADER,
            BASE64.encode(text).parse().unwrap(),
        );
        credentials(&headers).unwrap()
    }

    #[test]
    fn credentials_come_in_several_shapes() {
        let basic = Credentials::Basic {
            username: "u".into(),
            password: "p:q".into(),
        };
        assert_eq!(given("{}"), Some(Credentials::Anonymous));
        assert_eq!(
            given(r#"{"username":"u","password":"p:q"}"#),
            Some(basic.clone())
        );
        assert_eq!(given(r#"{"auth":"dTpwOnE="}"#), Some(basic));
        assert_eq!(
            given(r#"{"identitytoken":"t"}"#),
            Some(Credentials::IdentityToken("t".into()))
        );
        assert_eq!(credentials(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn a_header_that_is_no_credentials_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(api::REGISTRY_AUTH_HEADER, "%%%".parse().unwrap());
        assert!(credentials(&headers).is_err());
    }
}
