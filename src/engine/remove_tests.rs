//! The removal rules against a library in memory.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::collections::BTreeMap;

use nacre_store::{ChainId, Digest, ImageId};

use super::*;

/// An image's names and its parent.
type Shelved = (Vec<Reference>, Option<ImageId>);

#[derive(Default)]
struct Shelf {
    images: RefCell<BTreeMap<ImageId, Shelved>>,
    users: Vec<(ImageId, User)>,
}

fn id(text: &str) -> ImageId {
    ImageId(Digest::of(text.as_bytes()))
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn pinned(repository: &str) -> Reference {
    name(repository).with_digest(Digest::of(b"manifest"))
}

impl Shelf {
    fn with(self, image: &str, names: &[Reference], parent: Option<&str>) -> Self {
        self.images
            .borrow_mut()
            .insert(id(image), (names.to_vec(), parent.map(id)));
        self
    }

    fn used(mut self, image: &str, active: bool) -> Self {
        self.users.push((
            id(image),
            User {
                what: "container",
                name: "c0ffee".into(),
                active,
            },
        ));
        self
    }

    fn rm(&self, target: Target, force: bool) -> std::result::Result<Vec<String>, String> {
        let options = Options {
            force,
            keep_parents: false,
        };
        let told = |step: &Step| match step {
            Step::Untagged(name) => format!("Untagged: {name}"),
            Step::Deleted(digest) => format!("Deleted: {digest}"),
        };
        remove(self, &target, options)
            .map(|steps| steps.iter().map(told).collect())
            .map_err(|e| e.to_string())
    }

    fn has(&self, image: &str) -> bool {
        self.images.borrow().contains_key(&id(image))
    }
}

impl Library for Shelf {
    fn refs(&self, image: &ImageId) -> Result<Vec<Reference>> {
        Ok(self
            .images
            .borrow()
            .get(image)
            .map(|(names, _)| names.clone())
            .unwrap_or_default())
    }
    fn parent(&self, image: &ImageId) -> Result<Option<ImageId>> {
        Ok(self
            .images
            .borrow()
            .get(image)
            .and_then(|(_, parent)| *parent))
    }
    fn has_children(&self, image: &ImageId) -> Result<bool> {
        Ok(self
            .images
            .borrow()
            .values()
            .any(|(_, parent)| *parent == Some(*image)))
    }
    fn users(&self, image: &ImageId) -> Result<Vec<User>> {
        Ok(self
            .users
            .iter()
            .filter(|(used, _)| used == image)
            .map(|(_, user)| user.clone())
            .collect())
    }
    fn untag(&self, image: &ImageId, name: &Reference) -> Result<()> {
        self.images
            .borrow_mut()
            .get_mut(image)
            .unwrap()
            .0
            .retain(|other| other != name);
        Ok(())
    }
    fn delete(&self, image: &ImageId) -> Result<Vec<ChainId>> {
        let (names, _) = self.images.borrow_mut().remove(image).unwrap();
        assert!(names.is_empty(), "deleted with names");
        Ok(vec![ChainId(*image.digest())])
    }
}

fn by_name(image: &str, text: &str) -> Target {
    Target::Name(id(image), name(text))
}

#[test]
fn the_last_name_takes_the_image_and_its_digests_along() {
    let shelf = Shelf::default().with("a", &[name("deb:1"), pinned("deb")], None);
    let steps = shelf.rm(by_name("a", "deb:1"), false).unwrap();
    let digest = pinned("deb").familiar();
    let gone = id("a");
    let wanted = [
        "Untagged: deb:1".into(),
        format!("Untagged: {digest}"),
        format!("Deleted: {gone}"),
        format!("Deleted: {gone}"),
    ];
    assert_eq!(steps, wanted);
}

#[test]
fn one_name_of_two_is_only_untagged() {
    let shelf = Shelf::default()
        .with("a", &[name("deb:1"), name("deb:2"), pinned("deb")], None)
        .used("a", true);
    assert_eq!(
        shelf.rm(by_name("a", "deb:1"), false).unwrap(),
        ["Untagged: deb:1"]
    );
    assert!(shelf.has("a"));
}

#[test]
fn a_digest_goes_alone_while_a_tag_remains() {
    let shelf = Shelf::default().with("a", &[name("deb:1"), pinned("deb")], None);
    let steps = shelf
        .rm(Target::Name(id("a"), pinned("deb")), false)
        .unwrap();
    assert_eq!(steps, [format!("Untagged: {}", pinned("deb").familiar())]);
}

#[test]
fn the_only_name_of_a_used_image_must_be_forced() {
    let shelf = Shelf::default()
        .with("a", &[name("base:latest")], None)
        .used("a", false);
    let short = short(&id("a"));
    let error = shelf.rm(by_name("a", "base:latest"), false).unwrap_err();
    assert_eq!(
        error,
        format!(
            "conflict: unable to remove repository reference \"base:latest\" (must force) - container c0ffee is using its referenced image {short}"
        )
    );
    assert!(shelf.rm(by_name("a", "base:latest"), true).unwrap().len() > 1);
    assert!(!shelf.has("a"));
}

#[test]
fn force_untags_but_keeps_the_image_of_a_running_container() {
    let shelf = Shelf::default()
        .with("a", &[name("base:latest")], None)
        .used("a", true);
    assert_eq!(
        shelf.rm(by_name("a", "base:latest"), true).unwrap(),
        ["Untagged: base:latest"]
    );
    assert!(shelf.has("a"));
}

#[test]
fn an_id_with_several_repositories_must_be_forced() {
    let shelf = Shelf::default().with("a", &[name("one:1"), name("two:1")], None);
    let error = shelf.rm(Target::Image(id("a")), false).unwrap_err();
    assert!(
        error.ends_with("(must be forced) - image is referenced in multiple repositories"),
        "{error}"
    );
    let steps = shelf.rm(Target::Image(id("a")), true).unwrap();
    assert_eq!(
        steps.get(..2).unwrap(),
        ["Untagged: one:1", "Untagged: two:1"]
    );
}

#[test]
fn users_and_children_stand_in_the_way_of_an_id() {
    let running = Shelf::default().with("a", &[], None).used("a", true);
    assert!(
        running
            .rm(Target::Image(id("a")), true)
            .unwrap_err()
            .contains("(cannot be forced) - image is being used by running container c0ffee")
    );
    let stopped = Shelf::default().with("a", &[], None).used("a", false);
    assert!(
        stopped
            .rm(Target::Image(id("a")), false)
            .unwrap_err()
            .contains("(must be forced) - image is being used by stopped container c0ffee")
    );
    let parent = Shelf::default()
        .with("a", &[], None)
        .with("b", &[], Some("a"));
    assert!(
        parent
            .rm(Target::Image(id("a")), true)
            .unwrap_err()
            .contains("image has dependent child images")
    );
}

#[test]
fn a_nameless_parent_goes_along_and_a_named_one_stays() {
    let shelf = Shelf::default()
        .with("a", &[], None)
        .with("b", &[name("b:1")], Some("a"));
    shelf.rm(by_name("b", "b:1"), false).unwrap();
    assert!(!shelf.has("a"));
    let shelf =
        Shelf::default()
            .with("a", &[name("a:1")], None)
            .with("b", &[name("b:1")], Some("a"));
    shelf.rm(by_name("b", "b:1"), false).unwrap();
    assert!(shelf.has("a"));
}
