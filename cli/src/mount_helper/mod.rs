//! `mount.fuse.nacre` and `umount.fuse.nacre`: what mount(8), umount(8) and /etc/fstab call. They say nothing on success,
//! return when the mount is usable or the server has let go, and speak mount(8)'s options and exit codes, not docker's.

mod options;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use self::options::{Asked, Line, Refusal};
use crate::api::{ContainerInspect, ImageInspect, MountInfo, MountRequest, RemountRequest};
use crate::client::{Call, Route};
use crate::command::{mount, pull};
use crate::draw::err;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::settings::Settings;

/// Wrong arguments or no permission (mount(8), exit status).
const EXIT_USAGE: i32 = 1;
/// The mount failed (mount(8), exit status).
const EXIT_FAILURE: i32 = 32;

/// Which helper a program's name asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Helper {
    Mount,
    Unmount,
}

impl Helper {
    /// The helper that the first word of a command line names, if any.
    pub(crate) fn named(program: &OsString) -> Option<Self> {
        match Path::new(program).file_name()?.to_str()? {
            "mount.fuse.nacre" | "mount.nacre" => Some(Self::Mount),
            "umount.fuse.nacre" | "umount.nacre" => Some(Self::Unmount),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Mount => "mount.fuse.nacre",
            Self::Unmount => "umount.fuse.nacre",
        }
    }

    /// Reads the words after the program's name.
    pub(crate) fn parse(self, words: &[OsString]) -> Result<Asked> {
        let read = match self {
            Self::Mount => options::mount(words),
            Self::Unmount => options::unmount(words),
        };
        read.map_err(|refusal| {
            let usage = match (&refusal, self) {
                (Refusal::Usage(_), Self::Mount) => {
                    "\nUsage:  mount.fuse.nacre IMAGE|CONTAINER DIR [-o OPTIONS]"
                }
                (Refusal::Usage(_), Self::Unmount) => "\nUsage:  umount.fuse.nacre [-l] DIR",
                (Refusal::Option(_), _) => "",
            };
            err(&format!("{}: {refusal}{usage}\n", self.name()));
            Error::Silent(EXIT_USAGE)
        })
    }

    /// What mount(8) is told about an error.
    pub(crate) fn failed(self, error: &Error) -> Error {
        if !error.is_silent() {
            err(&format!("{}: {error}\n", self.name()));
        }
        Error::Silent(EXIT_FAILURE)
    }
}

impl Asked {
    /// Which service is meant.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let line = self.line();
        let root = line.root.clone().or_else(|| set("NACRE_ROOT"));
        let host = match &line.host {
            Some(host) => Some(host.clone()),
            None => set("NACRE_HOST").and_then(|host| host.into_string().ok()),
        };
        Settings::new(root.as_deref().map(Path::new), host.as_deref(), false)
    }

    /// Does it.
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        if self.line().is_fake {
            return Ok(());
        }
        session.verify_root().await?;
        match self {
            Self::Mount { source, line } if !line.is_remount => attach(session, source, line).await,
            Self::Mount { line, .. } => {
                let request = RemountRequest {
                    target: mount::target_of(&line.target)?,
                    options: line.flags.clone(),
                };
                let call = Call::post(Route::nacre(&["remount"])).json(&request)?;
                session.client.done(call).await.map(drop)
            }
            Self::Unmount { line, is_lazy } => detach(session, &line.target, *is_lazy).await,
        }
    }
}

async fn attach(session: &Session, source: &str, line: &Line) -> Result<()> {
    let mut request = MountRequest {
        target: Some(mount::target_of(&line.target)?),
        name: line.name.clone(),
        platform: line.platform.clone(),
        options: line.flags.clone(),
        ..MountRequest::default()
    };
    match find(session, source, line).await? {
        Source::Image => {
            request.image = source.to_owned();
            // A name's changes can be looked at through a mount that is `ro`; without a name there are none.
            request.read_only = line.is_read_only() && line.name.is_none();
            request.passthrough = line.is_passthrough;
        }
        Source::Container => request.container = Some(source.to_owned()),
        Source::Kept => request.name = Some(source.to_owned()),
    }
    let call = Call::post(Route::nacre(&["mounts"])).json(&request)?;
    session.client.json::<MountInfo>(call).await.map(drop)
}

/// What the first word of a mount names.
enum Source {
    Image,
    Container,
    /// A name that changes are kept under.
    Kept,
}

/// An image that is here, else a container, else a kept name, else an image that is elsewhere.
async fn find(session: &Session, source: &str, line: &Line) -> Result<Source> {
    let client = &session.client;
    let route = Route::docker(&["images", source, "json"]);
    match client.get::<ImageInspect>(route).await {
        Ok(_) => return Ok(Source::Image),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    if line.name.is_none() {
        let route = Route::docker(&["containers", source, "json"]);
        match client.get::<ContainerInspect>(route).await {
            Ok(_) => return Ok(Source::Container),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let kept: Vec<MountInfo> = client.get(Route::nacre(&["mounts"])).await?;
        if kept.iter().any(|mount| mount.name == source) {
            return Ok(Source::Kept);
        }
    }
    pull::missing(session, source, line.platform.as_deref(), true).await?;
    Ok(Source::Image)
}

/// Takes away what is mounted on a directory, however that was done and whoever served it.
async fn detach(session: &Session, target: &Path, is_lazy: bool) -> Result<()> {
    let place = place_of(target);
    // A service that is not there serves nothing: what it left is the kernel's to take away.
    if session.client.is_served().await? {
        let route = Route::nacre(&["mounts"])
            .with("target", &place.to_string_lossy())
            .flag("lazy", is_lazy);
        match session.client.done(Call::delete(route)).await {
            Err(error) if error.is_not_found() => {}
            done => return done.map(drop),
        }
    }
    let flags = if is_lazy {
        rustix::mount::UnmountFlags::DETACH
    } else {
        rustix::mount::UnmountFlags::empty()
    };
    rustix::mount::unmount(&place, flags)
        .map_err(|errno| Error::io(place.display().to_string(), errno.into()))
}

/// The mount point's path, without asking whoever serves it: he may be dead.
fn place_of(target: &Path) -> PathBuf {
    let absolute = std::path::absolute(target).unwrap_or_else(|_| target.to_owned());
    let resolved = absolute.parent().and_then(|parent| {
        let parent = std::fs::canonicalize(parent).ok()?;
        Some(parent.join(absolute.file_name()?))
    });
    resolved.unwrap_or(absolute)
}
