//! `save`, `load`, `import`: images to and from tar archives.

use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;

use super::pull::named;
use crate::args::values::platform_json;
use crate::attach::stdin;
use crate::client::{Call, Route};
use crate::draw::progress::{Place, follow};
use crate::draw::{out, stdout_is_terminal};
use crate::error::{Error, Result};
use crate::session::Session;

/// The mode of an archive that is written: images may hold secrets.
const ARCHIVE_MODE: u32 = 0o600;

/// The flags of `save`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] IMAGE [IMAGE...]",
    after_help = "Examples:
  nacre save -o site.tar site:v2
  nacre save site:v2 | gzip > site.tar.gz"
)]
pub(crate) struct SaveArgs {
    /// Write to a file, which appears only when it is whole
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Save one platform of an image for several: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    #[arg(required = true, hide = true)]
    images: Vec<String>,
}

/// Saves images.
pub(crate) async fn save(session: &Session, args: SaveArgs) -> Result<()> {
    if args.output.is_none() && stdout_is_terminal() {
        return Err(Error::said(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let platform = args.platform.as_deref().map(platform_json).transpose()?;
    let mut route = Route::docker(&["images", "get"]).maybe("platform", platform.as_deref());
    for image in &args.images {
        route = route.with("names", image);
    }
    let Some(path) = args.output else {
        let response = session.client.send(Call::get(route)).await?;
        return copy(response, &mut io::stdout(), "standard output").await;
    };
    // Before the service works for a file that cannot be written.
    let mut file = Unfinished::beside(&path)?;
    let response = session.client.send(Call::get(route)).await?;
    copy(response, file.0.as_file_mut(), &path.display().to_string()).await?;
    file.finish(&path)
}

/// A file that is not there until it is whole.
struct Unfinished(tempfile::NamedTempFile);

impl Unfinished {
    fn beside(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::said(format!(
                "invalid output path: \"{}\" is a directory",
                path.display()
            )));
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !directory.is_dir() {
            return Err(Error::said(format!(
                "invalid output path: directory \"{}\" does not exist",
                directory.display()
            )));
        }
        tempfile::Builder::new()
            .prefix(".nacre-")
            .permissions(std::fs::Permissions::from_mode(ARCHIVE_MODE))
            .tempfile_in(directory)
            .map(Self)
            .map_err(|source| Error::io(directory.display().to_string(), source))
    }

    fn finish(self, path: &Path) -> Result<()> {
        let fail = |source| Error::io(path.display().to_string(), source);
        // A name that is no ordinary file (/dev/null, a pipe) is written to,
        // not replaced.
        let special = std::fs::symlink_metadata(path)
            .is_ok_and(|found| !found.is_file() && !found.is_symlink());
        if special {
            let mut from = self.0.reopen().map_err(fail)?;
            let mut to = std::fs::OpenOptions::new()
                .write(true)
                .open(path)
                .map_err(fail)?;
            return io::copy(&mut from, &mut to).map(|_| ()).map_err(fail);
        }
        self.0.as_file().sync_all().map_err(fail)?;
        self.0
            .persist(path)
            .map(|_| ())
            .map_err(|error| fail(error.error))
    }
}

async fn copy(response: Response<Incoming>, to: &mut impl Write, name: &str) -> Result<()> {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| Error::Connection {
            what: format!("the download to {name}"),
            source,
        })?;
        if let Some(data) = frame.data_ref() {
            to.write_all(data)
                .map_err(|source| Error::io(name, source))?;
        }
    }
    to.flush().map_err(|source| Error::io(name, source))
}

/// The flags of `load`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "Examples:
  nacre load -i site.tar
  gunzip -c site.tar.gz | nacre load"
)]
pub(crate) struct LoadArgs {
    /// Read from a file instead of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Load one platform of an image for several: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Print only what names each image
    #[arg(short, long)]
    quiet: bool,
}

/// Loads images.
pub(crate) async fn load(session: &Session, args: LoadArgs) -> Result<()> {
    let platform = args.platform.as_deref().map(platform_json).transpose()?;
    let quiet = args.quiet || !stdout_is_terminal();
    let route = Route::docker(&["images", "load"])
        .with("quiet", if quiet { "1" } else { "0" })
        .maybe("platform", platform.as_deref());
    let call = match &args.input {
        Some(path) => upload_file(Call::post(route), path).await?,
        None if io::stdin().is_terminal() => {
            return Err(Error::said("requested load from stdin, but stdin is empty"));
        }
        None => Call::post(route).upload_chunks(stdin::chunks()),
    };
    let place = if args.quiet {
        Place::Nowhere
    } else {
        Place::Stdout
    };
    let outcome = follow(session.client.lines(call).await?, place).await?;
    let names: Vec<&str> = loaded(&outcome.text).collect();
    // The last line names the image, and nothing else: a script can take it.
    let bare = if args.quiet {
        names.as_slice()
    } else {
        names.last().map_or(&[][..], std::slice::from_ref)
    };
    for name in bare {
        out(&format!("{name}\n"))?;
    }
    Ok(())
}

/// What names the images in the text that load prints.
fn loaded(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        line.strip_prefix("Loaded image ID: ")
            .or_else(|| line.strip_prefix("Loaded image: "))
    })
}

async fn upload_file(call: Call, path: &Path) -> Result<Call> {
    let name = path.display().to_string();
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|source| Error::io(format!("open {name}"), source))?;
    let metadata = file
        .metadata()
        .await
        .map_err(|source| Error::io(name.clone(), source))?;
    if metadata.is_dir() {
        return Err(Error::said(format!("open {name}: is a directory")));
    }
    Ok(call.upload(file))
}

/// The flags of `import`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] FILE|URL|- [REPOSITORY[:TAG]]",
    after_help = "Examples:
  nacre import rootfs.tar base:1
  tar -C tree -c . | nacre import -c 'CMD [\"/bin/sh\"]' - base:1"
)]
pub(crate) struct ImportArgs {
    /// Apply a Dockerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR …
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,

    /// What the image's history says about this step
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,

    /// The platform that the image is for: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    #[arg(required = true, hide = true)]
    source: String,

    #[arg(hide = true)]
    reference: Option<String>,
}

/// Imports a root filesystem; prints the new image's ID.
pub(crate) async fn import(session: &Session, args: ImportArgs) -> Result<()> {
    let is_url = args.source.starts_with("http://") || args.source.starts_with("https://");
    let from = if is_url { args.source.as_str() } else { "-" };
    let mut route = Route::docker(&["images", "create"])
        .with("fromSrc", from)
        .maybe("repo", args.reference.as_deref())
        .maybe("message", args.message.as_deref())
        .maybe("platform", args.platform.as_deref());
    for change in &args.changes {
        route = route.with("changes", change);
    }
    let call = Call::post(route);
    let call = if is_url {
        call
    } else if args.source == "-" {
        call.upload_chunks(stdin::chunks())
    } else {
        upload_file(call, Path::new(&args.source)).await?
    };
    let outcome = follow(session.client.lines(call).await?, Place::Stdout).await?;
    // The ID is the last line of the stream; a service that sends it as aux
    // only has not printed it yet.
    match named(&outcome) {
        Some(id) if outcome.last_status.is_empty() => out(&format!("{id}\n")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_what_load_says() {
        let text = "Loaded image: a:1\nsomething else\nLoaded image ID: sha256:1\n";
        let names: Vec<&str> = loaded(text).collect();
        assert_eq!(names, ["a:1", "sha256:1"]);
    }
}
