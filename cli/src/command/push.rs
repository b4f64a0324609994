//! `push`: an image to a registry.

use crate::client::{Call, Route};
use crate::draw::out;
use crate::draw::progress::{Place, follow};
use crate::error::{Error, Result};
use crate::reference::{DEFAULT_TAG, Reference};
use crate::session::Session;

/// The flags of `push`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] NAME[:TAG]",
    after_help = "Examples:
  nacre tag site:v2 127.0.0.1:5000/site:v2
  nacre push 127.0.0.1:5000/site:v2"
)]
pub(crate) struct Args {
    /// Push every tag of the repository
    #[arg(short, long)]
    all_tags: bool,

    /// Push one platform of an image for several: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Print only the name
    #[arg(short, long)]
    quiet: bool,

    #[arg(required = true, hide = true)]
    name: String,
}

/// Pushes.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let reference = Reference::parse(&args.name)?;
    if reference.digest.is_some() {
        return Err(Error::said("cannot push a digest reference"));
    }
    if args.all_tags && reference.tag.is_some() {
        return Err(Error::said("tag can't be used with --all-tags/-a"));
    }
    if !args.all_tags && reference.tag.is_none() && !args.quiet {
        out(&format!("Using default tag: {DEFAULT_TAG}\n"))?;
    }
    let tag = match (&reference.tag, args.all_tags) {
        (_, true) => "",
        (Some(tag), false) => tag,
        (None, false) => DEFAULT_TAG,
    };
    let route = Route::docker(&["images", &reference.full_name(), "push"])
        .with("tag", tag)
        .maybe("platform", args.platform.as_deref());
    let call = session.with_credentials(Call::post(route), &reference.domain)?;
    let place = if args.quiet {
        Place::Nowhere
    } else {
        Place::Stdout
    };
    follow(session.client.lines(call).await?, place).await?;
    match (args.quiet, args.all_tags) {
        (false, _) => Ok(()),
        (true, true) => out(&format!("{}\n", reference.full_name())),
        (true, false) => out(&format!("{}\n", reference.canonical())),
    }
}
