//! The one namespace of containers and named mounts: who has which name. Never looks into the store.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::error::{Error, Result};
use super::names;
use crate::runtime::spec::ContainerId;

/// Who has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A container.
    Container(ContainerId),
    /// A named writable mount.
    Mount,
}

/// All names in use. Its lock is held for a look-up only.
#[derive(Clone, Default)]
pub(crate) struct Namespace(Arc<Mutex<HashMap<String, Owner>>>);

/// A name that is claimed; given back when dropped, unless it is kept.
pub(crate) struct Claim {
    namespace: Namespace,
    text: Option<String>,
}

impl Namespace {
    /// Claims a name; makes one up if none is given.
    pub(crate) fn claim(&self, wanted: Option<&str>, owner: Owner) -> Result<Claim> {
        let mut all = self.0.lock();
        let text = match wanted {
            Some(name) => {
                let name = name.strip_prefix('/').unwrap_or(name);
                names::check(name)?;
                if let Some(owner) = all.get(name) {
                    return Err(taken(name, owner));
                }
                name.to_owned()
            }
            None => names::invent(|name| all.contains_key(name))?,
        };
        all.insert(text.clone(), owner);
        drop(all);
        Ok(Claim {
            namespace: self.clone(),
            text: Some(text),
        })
    }

    /// Takes a name for good, as when the store is read.
    pub(crate) fn put(&self, name: &str, owner: Owner) {
        self.0.lock().insert(name.to_owned(), owner);
    }

    /// Gives a name back.
    pub(crate) fn release(&self, name: &str) {
        self.0.lock().remove(name);
    }
}

fn taken(name: &str, owner: &Owner) -> Error {
    let (what, owner) = match owner {
        Owner::Container(id) => ("container", format!("container \"{id}\"")),
        Owner::Mount => ("mount", format!("mount \"{name}\"")),
    };
    Error::NameTaken {
        name: name.to_owned(),
        what,
        owner,
    }
}

impl Claim {
    /// The name.
    pub(crate) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Keeps it: what bears it exists now.
    pub(crate) fn keep(mut self) {
        self.text = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(text) = &self.text {
            self.namespace.release(text);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_dropped_claim_gives_the_name_back_and_a_kept_one_does_not() {
        let names = Namespace::default();
        drop(names.claim(Some("web"), Owner::Mount).unwrap());
        names.claim(Some("/web"), Owner::Mount).unwrap().keep();
        let error = names
            .claim(Some("web"), Owner::Mount)
            .err()
            .unwrap()
            .to_string();
        assert_eq!(
            error,
            "Conflict. The container name \"/web\" is already in use by mount \"web\". You have to remove (or rename) that mount to be able to reuse that name."
        );
    }

    #[test]
    fn a_made_up_name_is_claimed_too() {
        let names = Namespace::default();
        let claim = names.claim(None, Owner::Mount).unwrap();
        assert!(names.claim(Some(claim.text()), Owner::Mount).is_err());
    }
}
