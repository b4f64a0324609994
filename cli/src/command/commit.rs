//! `commit`: the changes of a container or a mount as a new image.

use crate::api::CommitResponse;
use crate::args::values::boolean;
use crate::client::{Call, Route};
use crate::draw::out;
use crate::error::{Error, Result};
use crate::reference::{DEFAULT_TAG, Reference};
use crate::session::Session;

/// The flags of `commit`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER|MOUNT [REPOSITORY[:TAG]]",
    after_help = "Examples:
  nacre commit web site:v2
  nacre commit -a \"A <a@b>\" -m \"why\" -c 'CMD [\"nginx\"]' work site:v2"
)]
pub(crate) struct Args {
    /// Who made the changes: \"Name <mail>\"
    #[arg(short, long, value_name = "AUTHOR")]
    author: Option<String>,

    /// Apply a Dockerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR …
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,

    /// What the image's history says about this step
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,

    /// Hold the container still meanwhile [default: true]
    #[arg(
        short, long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", hide_default_value = true,
        value_parser = boolean
    )]
    pause: bool,

    #[arg(required = true, hide = true)]
    name: String,

    #[arg(hide = true)]
    reference: Option<String>,
}

/// Commits; prints the new image's ID.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let reference = args
        .reference
        .as_deref()
        .map(Reference::parse)
        .transpose()?;
    if reference.as_ref().is_some_and(|r| r.digest.is_some()) {
        return Err(Error::said(
            "refusing to create a tag with a digest reference",
        ));
    }
    let mut route = Route::docker(&["commit"])
        .with("container", &args.name)
        .maybe("author", args.author.as_deref())
        .maybe("comment", args.message.as_deref());
    if let Some(reference) = &reference {
        route = route
            .with("repo", &reference.full_name())
            .with("tag", reference.tag.as_deref().unwrap_or(DEFAULT_TAG));
    }
    for change in &args.changes {
        route = route.with("changes", change);
    }
    if !args.pause {
        route = route.with("pause", "0");
    }
    let call = Call::post(route).json(&serde_json::json!({}))?;
    let committed: CommitResponse = session.client.json(call).await?;
    out(&format!("{}\n", committed.id))
}
