//! `mount`, `umount`: images as directories.

use std::path::{Path, PathBuf};

use super::pull::ensure;
use crate::api::{MountInfo, MountRequest};
use crate::client::{Call, Route};
use crate::draw::listing::Listing;
use crate::draw::{out, short_id};
use crate::error::{Error, Result, each};
use crate::format::Value;
use crate::session::Session;
use crate::settings::absolute;

/// The flags of `mount`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] [IMAGE] [DIR]",
    after_help = "Examples:
  nacre mount debian /mnt/a                   writable; changes are kept under a name
  nacre mount --name work debian /mnt/a       kept under this name
  nacre mount --name work /mnt/b              the same changes again, later or elsewhere
  nacre mount --read-only debian              at a directory of nacre's choice, which is printed
  nacre mount                                 list the mounts"
)]
pub(crate) struct Args {
    /// Keep changes under this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Mount a view that cannot be changed
    #[arg(short, long)]
    read_only: bool,

    /// With --read-only: let the kernel read large files by itself, at the disk's speed; small files take longer to open
    #[arg(long)]
    passthrough: bool,

    /// Choose from an image for several platforms: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Print the list by a Go template, or "table TEMPLATE", or "json"
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Print only the directories of the list, or the directory mounted
    #[arg(short, long)]
    quiet: bool,

    /// Print whole IDs in the list
    #[arg(long)]
    no_trunc: bool,

    #[arg(hide = true)]
    image: Option<String>,

    #[arg(hide = true)]
    dir: Option<PathBuf>,
}

/// Mounts, or lists the mounts.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let (image, dir) = match (args.image, args.dir) {
        (None, _) if args.name.is_none() => {
            return list(session, args.format.as_deref(), args.quiet, args.no_trunc).await;
        }
        // A name that is kept knows its image; no image is called like a path.
        (Some(dir), None) if args.name.is_some() && dir.starts_with(['/', '.']) => {
            (String::new(), Some(PathBuf::from(dir)))
        }
        (image, dir) => (image.unwrap_or_default(), dir),
    };
    let target = dir.as_deref().map(target_of).transpose()?;
    if !image.is_empty() {
        ensure(session, &image, args.platform.as_deref()).await?;
    }
    let request = MountRequest {
        image,
        target: target.clone(),
        name: args.name.clone(),
        read_only: args.read_only,
        passthrough: args.passthrough,
        platform: args.platform,
        ..MountRequest::default()
    };
    let call = Call::post(Route::nacre(&["mounts"])).json(&request)?;
    let mounted: MountInfo = session.client.json(call).await?;
    // What the user did not say, the user is told.
    if target.is_none() || args.quiet {
        return out(&format!("{}\n", mounted.target));
    }
    if args.name.is_none() && !args.read_only {
        return out(&format!("{}\n", mounted.name));
    }
    Ok(())
}

/// The absolute path of a mount point, without asking the service for what is
/// plainly wrong.
pub(crate) fn target_of(dir: &Path) -> Result<String> {
    let name = dir.display();
    let metadata = std::fs::metadata(dir)
        .map_err(|source| Error::io(format!("mount point {name}"), source))?;
    if !metadata.is_dir() {
        return Err(Error::said(format!("mount point {name}: not a directory")));
    }
    let path = std::fs::canonicalize(dir)
        .map_err(|source| Error::io(format!("mount point {name}"), source))?;
    match path.to_str() {
        Some(path) => Ok(path.to_owned()),
        None => Err(Error::said(format!(
            "mount point {name}: the path is not UTF-8"
        ))),
    }
}

async fn list(session: &Session, format: Option<&str>, quiet: bool, whole: bool) -> Result<()> {
    let mounts: Vec<MountInfo> = session.client.get(Route::nacre(&["mounts"])).await?;
    let listing = listing();
    let format = listing.format(format, quiet);
    let rows = mounts
        .iter()
        .map(|mount| {
            let id = if whole {
                mount.image_id.clone()
            } else {
                short_id(&mount.image_id)
            };
            let mode = if mount.read_only { "ro" } else { "rw" };
            vec![
                ("Name", Value::from(mount.name.as_str())),
                ("Image", Value::from(mount.image.as_str())),
                ("ImageID", Value::from(id)),
                ("Mode", Value::from(mode)),
                ("Target", Value::from(mount.target.as_str())),
            ]
        })
        .collect();
    listing.print(&format, rows)
}

fn listing() -> Listing {
    Listing {
        type_name: "mount",
        headings: &[
            ("Name", "NAME"),
            ("Image", "IMAGE"),
            ("ImageID", "IMAGE ID"),
            ("Mode", "MODE"),
            ("Target", "MOUNTED AT"),
        ],
        table: "{{.Name}}\t{{.Image}}\t{{.ImageID}}\t{{.Mode}}\t{{.Target}}".to_owned(),
        quiet: "{{.Target}}",
        raw: None,
    }
}

/// The flags of `umount`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] DIR|NAME [DIR|NAME...]",
    after_help = "Examples:
  nacre umount /mnt/a                         changes stay, under the mount's name
  nacre umount --rm work                      and forget what was changed
  nacre umount --lazy /mnt/a                  although a process still works in it"
)]
pub(crate) struct UnmountArgs {
    /// Take it out of sight now, and away when the last process leaves it
    #[arg(short, long)]
    lazy: bool,

    /// Also remove what was changed
    #[arg(long)]
    rm: bool,

    #[arg(required = true, hide = true)]
    mounts: Vec<String>,
}

/// Takes mounts away.
pub(crate) async fn unmount(session: &Session, args: UnmountArgs) -> Result<()> {
    let known: Vec<MountInfo> = session.client.get(Route::nacre(&["mounts"])).await?;
    each(&args.mounts, async |word| {
        let mount = find(&known, word);
        let route = Route::nacre(&["mounts"]);
        let route = match mount {
            Some(mount) if mount.name == word => route.with("name", word),
            Some(mount) => route.with("target", &mount.target),
            None if word.contains('/') => route.with("target", &absolute_word(word)?),
            None => route.with("name", word),
        }
        .flag("lazy", args.lazy);
        // A kept upper that is not mounted has nothing to take away but itself.
        let is_kept_only = args.rm && mount.is_some_and(|mount| mount.target.is_empty());
        if !is_kept_only {
            session.client.done(Call::delete(route)).await?;
        }
        if args.rm {
            let name = mount.map_or(word, |mount| mount.name.as_str());
            if !name.is_empty() && !mount.is_some_and(|mount| mount.read_only) {
                let route = Route::nacre(&["uppers", name]);
                session.client.done(Call::delete(route)).await?;
            }
        }
        out(&format!("{word}\n"))
    })
    .await
}

fn absolute_word(word: &str) -> Result<String> {
    Ok(absolute(Path::new(word))?.to_string_lossy().into_owned())
}

/// The mount that a word names: by its name, or by its directory however that
/// is written. The directory is not opened: whoever serves it may be dead.
fn find<'m>(known: &'m [MountInfo], word: &str) -> Option<&'m MountInfo> {
    let lexical = absolute(Path::new(word)).ok();
    let parent_resolved = lexical.as_deref().and_then(|path| {
        let parent = std::fs::canonicalize(path.parent()?).ok()?;
        Some(parent.join(path.file_name()?))
    });
    let is_target = |mount: &&MountInfo| {
        let target = Path::new(&mount.target);
        !mount.target.is_empty()
            && (lexical.as_deref() == Some(target) || parent_resolved.as_deref() == Some(target))
    };
    if word.contains('/') {
        return known.iter().find(is_target);
    }
    known
        .iter()
        .find(|mount| mount.name == word)
        .or_else(|| known.iter().find(is_target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts() -> Vec<MountInfo> {
        let mount = |name: &str, target: &str| MountInfo {
            name: name.to_owned(),
            target: target.to_owned(),
            ..MountInfo::default()
        };
        vec![
            mount("work", "/mnt/a"),
            mount("kept", ""),
            mount("", "/mnt/b"),
        ]
    }

    fn found(word: &str) -> Option<String> {
        find(&mounts(), word).map(|mount| format!("{}@{}", mount.name, mount.target))
    }

    #[test]
    fn a_mount_is_found_by_name_and_by_directory() {
        assert_eq!(found("work").as_deref(), Some("work@/mnt/a"));
        assert_eq!(found("/mnt/a/").as_deref(), Some("work@/mnt/a"));
        assert_eq!(found("/mnt/./b").as_deref(), Some("@/mnt/b"));
        assert_eq!(found("kept").as_deref(), Some("kept@"));
        assert_eq!(found("/nowhere"), None);
        assert_eq!(found("nothing"), None);
    }
}
