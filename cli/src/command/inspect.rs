//! `inspect`: everything about containers and images, as JSON or by a
//! template.

use serde::Serialize as _;
use serde_json::Value as Json;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::args::values::platform_json;
use crate::client::{Client, Route};
use crate::draw::out;
use crate::error::{EXIT_TEMPLATE, Error, Result};
use crate::format::{Functions, MissingKey, Template, Value};
use crate::session::Session;

/// How docker indents.
const INDENT: &[u8] = b"    ";

/// The flags of `inspect`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] NAME|ID [NAME|ID...]",
    after_help = "Examples:
  nacre inspect web
  nacre inspect -f '{{.State.Pid}}' web
  nacre inspect --type image -f '{{json .Config}}' site:v2"
)]
pub(crate) struct Args {
    /// Print by a Go template, or "json"
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Also show how much a container wrote
    #[arg(short, long)]
    size: bool,

    /// Look only for "container" or only for "image"
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,

    #[arg(required = true, hide = true)]
    names: Vec<String>,
}

/// The flags of `image inspect` and `container inspect`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] NAME [NAME...]",
    after_help = "Examples:
  nacre image inspect -f '{{json .RootFS.Layers}}' site:v2
  nacre container inspect -s web"
)]
pub(crate) struct OneKindArgs {
    /// Print by a Go template, or "json"
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Also show how much a container wrote
    #[arg(short, long)]
    size: bool,

    /// Choose from an image for several platforms: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    #[arg(required = true, hide = true)]
    names: Vec<String>,
}

/// Where a name is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    Container,
    Image,
}

struct Question<'a> {
    kind: Kind,
    size: bool,
    platform: Option<&'a str>,
}

/// Inspects containers and images.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let kind = match args.kind.as_deref() {
        None | Some("") => Kind::Any,
        Some("container") => Kind::Container,
        Some("image") => Kind::Image,
        Some(other) => {
            return Err(Error::said(format!(
                "{other:?} is not a valid value for --type"
            )));
        }
    };
    let question = Question {
        kind,
        size: args.size,
        platform: None,
    };
    inspect(session, &args.names, &question, args.format.as_deref()).await
}

/// Inspects images.
pub(crate) async fn images(session: &Session, args: OneKindArgs) -> Result<()> {
    one_kind(session, Kind::Image, args).await
}

/// Inspects containers.
pub(crate) async fn containers(session: &Session, args: OneKindArgs) -> Result<()> {
    one_kind(session, Kind::Container, args).await
}

async fn one_kind(session: &Session, kind: Kind, args: OneKindArgs) -> Result<()> {
    let question = Question {
        kind,
        size: args.size,
        platform: args.platform.as_deref(),
    };
    inspect(session, &args.names, &question, args.format.as_deref()).await
}

async fn inspect(
    session: &Session,
    names: &[String],
    question: &Question<'_>,
    format: Option<&str>,
) -> Result<()> {
    let template = match format {
        None | Some("" | "json") => None,
        Some(source) => Some(Template::parse(source).map_err(bad_template)?),
    };
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for name in names {
        match look_up(&session.client, name, question).await {
            Ok(json) => match &template {
                Some(template) => {
                    if let Err(error) = print_by(template, &json) {
                        failed.push(error);
                        break;
                    }
                }
                None => found.push(json),
            },
            Err(error) => failed.push(error),
        }
    }
    match (&template, format) {
        (Some(_), _) => {}
        (None, Some("json")) => out(&format!("{}\n", Json::Array(found)))?,
        (None, _) => out(&indented(found)?)?,
    }
    match failed.len() {
        0 => Ok(()),
        1 => Err(failed.remove(0)),
        _ => Err(Error::Several(failed)),
    }
}

fn bad_template(error: crate::format::TemplateError) -> Error {
    Error::Exit {
        code: if error.is_syntax() { EXIT_TEMPLATE } else { 1 },
        message: format!("template parsing error: {error}"),
    }
}

fn print_by(template: &Template, json: &Json) -> Result<()> {
    let mut text = String::new();
    let done = template.run(
        &Value::from(json),
        MissingKey::Error,
        Functions::Real,
        &mut text,
    );
    // What was printed before an error is not, as in docker; its line is.
    if done.is_err() {
        text.clear();
    }
    text.push('\n');
    out(&text)?;
    done.map_err(bad_template)
}

/// The array as docker indents it.
fn indented(found: Vec<Json>) -> Result<String> {
    if found.is_empty() {
        return Ok("[]\n".to_owned());
    }
    let mut bytes = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(INDENT));
    Json::Array(found)
        .serialize(&mut serializer)
        .map_err(|source| Error::Answer {
            what: "inspect".to_owned(),
            source,
        })?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn look_up(client: &Client, name: &str, question: &Question<'_>) -> Result<Json> {
    if question.kind != Kind::Image {
        let route = Route::docker(&["containers", name, "json"]).flag("size", question.size);
        match client.get(route).await {
            Err(error) if error.is_not_found() && question.kind == Kind::Any => {}
            other => return other,
        }
    }
    let platform = question.platform.map(platform_json).transpose()?;
    let route = Route::docker(&["images", name, "json"]).maybe("platform", platform.as_deref());
    match client.get(route).await {
        Err(error) if error.is_not_found() && question.kind == Kind::Any => {
            Err(Error::said(format!("Error: No such object: {name}")))
        }
        other => other,
    }
}
