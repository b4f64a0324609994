//! Removing images: docker's rules of what goes, what stays and what stands in the way. Decides; a [`Library`] does.

use nacre_store::{ChainId, ImageId};

use super::error::{Error, Result};
use crate::reference::Reference;

/// What the rules need to know, and can have done.
pub(crate) trait Library {
    /// Every name of the image, sorted.
    fn refs(&self, image: &ImageId) -> Result<Vec<Reference>>;
    /// The image it was committed from.
    fn parent(&self, image: &ImageId) -> Result<Option<ImageId>>;
    /// Whether another image was committed from it.
    fn has_children(&self, image: &ImageId) -> Result<bool>;
    /// Who uses it.
    fn users(&self, image: &ImageId) -> Result<Vec<User>>;
    /// Takes a name away.
    fn untag(&self, image: &ImageId, name: &Reference) -> Result<()>;
    /// Deletes a nameless image; returns the freed chains, top first.
    fn delete(&self, image: &ImageId) -> Result<Vec<ChainId>>;
}

/// A container or a mount that uses an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// container, or mount.
    pub what: &'static str,
    /// Its short ID or name.
    pub name: String,
    /// It runs, or is mounted.
    pub active: bool,
}

/// One line of a removal's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A name was taken away; its familiar form.
    Untagged(String),
    /// An image or a chain was deleted; its digest.
    Deleted(String),
}

/// What the user pointed at.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// The image, by its ID or a part of it.
    Image(ImageId),
    /// One name of the image.
    Name(ImageId, Reference),
}

/// How far to go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Overrides what may be overridden.
    pub force: bool,
    /// Leaves parents that became useless.
    pub keep_parents: bool,
}

/// What stands in the way of a deletion.
struct Obstacle {
    error: Error,
    /// A container or mount, not a relation between images.
    is_user: bool,
}

/// Removes what `target` names, with everything that goes with it.
pub(crate) fn remove(
    library: &dyn Library,
    target: &Target,
    options: Options,
) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    match target {
        Target::Name(image, name) => {
            if !remove_name(library, image, name, options, &mut steps)? {
                return Ok(steps);
            }
            delete(library, image, options, Quiet::Yes, &mut steps)?;
        }
        Target::Image(image) => {
            if is_single(&library.refs(image)?) {
                let soft = if options.force {
                    Soft::Ignore
                } else {
                    Soft::UsersOnly
                };
                if let Some(obstacle) = obstacle(library, image, soft)? {
                    return Err(obstacle.error);
                }
                untag_all(library, image, &mut steps)?;
            }
            delete(library, image, options, Quiet::No, &mut steps)?;
        }
    }
    Ok(steps)
}

/// Takes one name away; says whether the image has none left.
fn remove_name(
    library: &dyn Library,
    image: &ImageId,
    name: &Reference,
    options: Options,
    steps: &mut Vec<Step>,
) -> Result<bool> {
    if !options.force
        && is_single(&library.refs(image)?)
        && let Some(user) = library.users(image)?.first()
    {
        let familiar = name.familiar();
        let (what, who) = (user.what, &user.name);
        return Err(Error::conflict(format!(
            "conflict: unable to remove repository reference \"{familiar}\" (must force) - {what} {who} is using its referenced image {}",
            short(image)
        )));
    }
    library.untag(image, name)?;
    steps.push(Step::Untagged(name.familiar()));
    let mut left = library.refs(image)?;
    let same_repository = |other: &Reference| other.repository() == name.repository();
    // Digests of a repository make sense beside its tags only.
    if name.digest().is_none()
        && !left
            .iter()
            .any(|other| other.digest().is_none() && same_repository(other))
    {
        for digest in left.iter().filter(|other| same_repository(other)) {
            library.untag(image, digest)?;
            steps.push(Step::Untagged(digest.familiar()));
        }
        left.retain(|other| !same_repository(other));
    }
    Ok(left.is_empty())
}

fn untag_all(library: &dyn Library, image: &ImageId, steps: &mut Vec<Step>) -> Result<()> {
    for name in library.refs(image)? {
        library.untag(image, &name)?;
        steps.push(Step::Untagged(name.familiar()));
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quiet {
    /// What stands in the way is told.
    No,
    /// Something else was done already: what stands in the way just ends it.
    Yes,
}

fn delete(
    library: &dyn Library,
    image: &ImageId,
    options: Options,
    mut quiet: Quiet,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let mut image = *image;
    let mut force = options.force;
    loop {
        let soft = if force { Soft::Ignore } else { Soft::All };
        if let Some(obstacle) = obstacle(library, &image, soft)? {
            let dangling = library.refs(&image)?.is_empty() && !library.has_children(&image)?;
            if quiet == Quiet::Yes && (!dangling || obstacle.is_user) {
                return Ok(());
            }
            return Err(obstacle.error);
        }
        let parent = library.parent(&image)?;
        untag_all(library, &image, steps)?;
        let chains = library.delete(&image)?;
        steps.push(Step::Deleted(image.to_string()));
        steps.extend(chains.iter().map(|chain| Step::Deleted(chain.to_string())));
        match parent {
            Some(parent) if !options.keep_parents => image = parent,
            _ => return Ok(()),
        }
        // A parent goes only if nothing at all speaks for it.
        (force, quiet) = (false, Quiet::Yes);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Soft {
    /// Names and idle users stand in the way.
    All,
    /// Idle users do.
    UsersOnly,
    /// Neither does.
    Ignore,
}

fn obstacle(library: &dyn Library, image: &ImageId, soft: Soft) -> Result<Option<Obstacle>> {
    let tell = |force: &str, why: String, is_user: bool| {
        let message = format!(
            "conflict: unable to delete {} ({force}) - {why}",
            short(image)
        );
        Some(Obstacle {
            error: Error::conflict(message),
            is_user,
        })
    };
    if library.has_children(image)? {
        return Ok(tell(
            "cannot be forced",
            "image has dependent child images".to_owned(),
            false,
        ));
    }
    let users = library.users(image)?;
    let using = |user: &User, state: &str| {
        format!("image is being used by {state} {} {}", user.what, user.name)
    };
    if let Some(user) = users.iter().find(|user| user.active) {
        let state = if user.what == "container" {
            "running"
        } else {
            "active"
        };
        return Ok(tell("cannot be forced", using(user, state), true));
    }
    if soft != Soft::Ignore
        && let Some(user) = users.first()
    {
        let state = if user.what == "container" {
            "stopped"
        } else {
            "kept"
        };
        return Ok(tell("must be forced", using(user, state), true));
    }
    if soft == Soft::All && !library.refs(image)?.is_empty() {
        return Ok(tell(
            "must be forced",
            "image is referenced in multiple repositories".to_owned(),
            false,
        ));
    }
    Ok(None)
}

/// At most one tag, and all digests in that tag's repository.
fn is_single(refs: &[Reference]) -> bool {
    let Some(first) = refs.first() else {
        return true;
    };
    let tags = refs.iter().filter(|name| name.digest().is_none()).count();
    tags <= 1
        && refs
            .iter()
            .all(|name| name.repository() == first.repository())
}

/// The first 12 digits.
pub(crate) fn short(image: &ImageId) -> String {
    image.digest().hex().chars().take(12).collect()
}

#[cfg(test)]
#[path = "remove_tests.rs"]
mod tests;
