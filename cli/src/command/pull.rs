//! `pull`: an image from a registry, an OCI directory or a docker archive.

use std::path::Path;

use crate::api::{ImageInspect, PullAux};
use crate::client::{Call, Route};
use crate::draw::progress::{Outcome, Place, follow};
use crate::draw::{err, out};
use crate::error::{Error, Result};
use crate::reference::{DEFAULT_TAG, Reference};
use crate::session::Session;
use crate::settings::absolute;

/// Where images come from that no registry has.
const LOCAL_SOURCES: [&str; 2] = ["oci:", "docker-archive:"];

/// The flags of `pull`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] NAME[:TAG|@DIGEST] | oci:DIR[:REF] | docker-archive:FILE",
    after_help = "Examples:
  nacre pull debian                           from docker.io
  nacre pull 127.0.0.1:5000/debian-min:1      from a registry of your own (plain http on loopback)
  nacre pull oci:./image:v1                   from an OCI image layout
  nacre pull -q docker-archive:image.tar      from the output of save; prints only the name"
)]
pub(crate) struct Args {
    /// Download every tag of the repository
    #[arg(short, long)]
    all_tags: bool,

    /// Choose from an image for several platforms: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Print only what names the image
    #[arg(short, long)]
    quiet: bool,

    #[arg(required = true, hide = true)]
    source: String,
}

/// Pulls, and prints what names the image as the last line.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let place = if args.quiet {
        Place::Nowhere
    } else {
        Place::Stdout
    };
    let platform = args.platform.as_deref();
    if LOCAL_SOURCES
        .iter()
        .any(|kind| args.source.starts_with(kind))
    {
        let name = local(session, &args.source, platform, place).await?;
        return out(&format!("{name}\n"));
    }
    let reference = Reference::parse(&args.source)?;
    if args.all_tags && (reference.tag.is_some() || reference.digest.is_some()) {
        return Err(Error::said("tag can't be used with --all-tags/-a"));
    }
    let is_default = reference.tag.is_none() && reference.digest.is_none() && !args.all_tags;
    if is_default && !args.quiet {
        out(&format!("Using default tag: {DEFAULT_TAG}\n"))?;
    }
    let tag = if args.all_tags {
        ""
    } else {
        reference.selector()
    };
    registry(session, &reference, tag, platform, place).await?;
    if args.all_tags {
        return out(&format!("{}\n", reference.full_name()));
    }
    out(&format!("{}\n", reference.canonical()))
}

async fn registry(
    session: &Session,
    reference: &Reference,
    tag: &str,
    platform: Option<&str>,
    place: Place,
) -> Result<Outcome> {
    let route = Route::docker(&["images", "create"])
        .with("fromImage", &reference.full_name())
        .with("tag", tag)
        .maybe("platform", platform);
    let call = session.with_credentials(Call::post(route), &reference.domain)?;
    follow(session.client.lines(call).await?, place).await
}

/// Pulls from a directory or a file; returns what names the image.
async fn local(
    session: &Session,
    source: &str,
    platform: Option<&str>,
    place: Place,
) -> Result<String> {
    let (kind, rest) = source.split_once(':').unwrap_or((source, ""));
    let (path, reference) = match rest.split_once(':') {
        // A name is a path up to the last colon that names an existing file.
        Some(_) if Path::new(rest).exists() => (rest, None),
        Some((path, reference)) if kind == "oci" => (path, Some(reference)),
        _ => (rest, None),
    };
    if path.is_empty() {
        return Err(Error::said(format!("{source}: no path after {kind}:")));
    }
    let path = absolute(Path::new(path))?;
    let Some(path) = path.to_str() else {
        return Err(Error::said(format!("{source}: the path is not UTF-8")));
    };
    let source = match reference {
        Some(reference) => format!("{kind}:{path}:{reference}"),
        None => format!("{kind}:{path}"),
    };
    let route = Route::nacre(&["pull"])
        .with("source", &source)
        .maybe("platform", platform);
    let outcome = follow(session.client.lines(Call::post(route)).await?, place).await?;
    named(&outcome).ok_or_else(|| {
        Error::said(format!(
            "the service pulled {source} and did not say what the image is called"
        ))
    })
}

/// What names the image that a stream made.
pub(crate) fn named(outcome: &Outcome) -> Option<String> {
    let aux = outcome.aux.last()?;
    let aux: PullAux = serde_json::from_value(aux.clone()).ok()?;
    aux.reference
        .filter(|reference| !reference.is_empty())
        .or(Some(aux.id).filter(|id| !id.is_empty()))
}

/// When `run`, `create` and `mount` pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    Always,
    Missing,
    Never,
}

/// Says that the image is missing, and pulls it; progress goes to standard
/// error.
pub(crate) async fn missing(
    session: &Session,
    image: &str,
    platform: Option<&str>,
    quiet: bool,
) -> Result<()> {
    let reference = Reference::parse(image)?;
    if !quiet {
        err(&format!(
            "Unable to find image '{}' locally\n",
            reference.familiar()
        ));
    }
    fetch(session, image, platform, quiet).await
}

/// Pulls for another command.
pub(crate) async fn fetch(
    session: &Session,
    image: &str,
    platform: Option<&str>,
    quiet: bool,
) -> Result<()> {
    let reference = Reference::parse(image)?;
    let place = if quiet { Place::Nowhere } else { Place::Stderr };
    registry(session, &reference, reference.selector(), platform, place).await?;
    Ok(())
}

/// Makes sure that an image is there for `mount`.
pub(crate) async fn ensure(session: &Session, image: &str, platform: Option<&str>) -> Result<()> {
    let found = session
        .client
        .get::<ImageInspect>(Route::docker(&["images", image, "json"]))
        .await;
    match found {
        Ok(_) => Ok(()),
        // What is no reference is an ID, and no registry knows those.
        Err(error) if error.is_not_found() && Reference::parse(image).is_ok() => {
            missing(session, image, platform, false).await
        }
        Err(error) => Err(error),
    }
}
