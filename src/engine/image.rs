//! Images: finding them by name, listing, tagging, pruning. Never fetches one.

use std::collections::BTreeMap;

use nacre_store::{ChainId, Digest, Image, ImageId};
use parking_lot::MutexGuard;

use super::config::ImageConfig;
use super::error::{Error, Result};
use super::events::attributes;
use super::filters::Filters;
use super::remove::{self, Library, Options, Step, Target, User};
use super::when::{self, Nanos};
use super::{Engine, glob};
use crate::reference::{IdOrReference, Reference};

/// An image, and the name it was found by.
#[derive(Clone, Debug)]
pub struct Found {
    /// The image.
    pub image: Image,
    /// The name that led to it; none if an ID did.
    pub by: Option<Reference>,
}

/// One image of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The image.
    pub image: Image,
    /// Its tags that passed the filters.
    pub tags: Vec<Reference>,
    /// Its digests that passed the filters.
    pub digests: Vec<Reference>,
    /// Seconds since the epoch; 0 if the configuration does not say.
    pub created: i64,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// How many containers use it.
    pub containers: usize,
}

/// What a prune did.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// What went.
    pub steps: Vec<Step>,
    /// Bytes of the regular files of freed chains.
    pub bytes: u64,
}

/// An image's names with a tag.
pub fn tags(image: &Image) -> Vec<Reference> {
    references(image)
        .filter(|name| name.digest().is_none())
        .collect()
}

/// An image's names with a digest.
pub fn digests(image: &Image) -> Vec<Reference> {
    references(image)
        .filter(|name| name.digest().is_some())
        .collect()
}

fn references(image: &Image) -> impl Iterator<Item = Reference> {
    image
        .refs
        .iter()
        .filter_map(|name| Reference::parse(name).ok())
}

/// Sum of the layers' regular files.
pub fn bytes(image: &Image) -> u64 {
    image
        .layers
        .iter()
        .map(|layer| layer.content_bytes)
        .fold(0, u64::saturating_add)
}

/// When the configuration says that the image was made.
pub fn created(image: &Image) -> Option<Nanos> {
    let config = ImageConfig::parse(&image.id, &image.config).ok()?;
    when::parse(config.text("created"))
}

impl Engine {
    /// Finds an image: by its ID, by its exact name, by a part of its ID, or by the end of its repository's name.
    pub fn find_image(&self, text: &str) -> Result<Found> {
        let missing = || Error::NoSuchImage(text.to_owned());
        let name = match IdOrReference::parse(text) {
            Ok(IdOrReference::Id(digest)) => {
                return self.image_by_id(digest).ok_or_else(missing)?;
            }
            Ok(IdOrReference::Reference(name)) => Some(name.or_latest()),
            // It may be a part of an ID that is no name, as `sha256:4f`.
            Err(_) if is_id_part(text) => None,
            Err(error) => return Err(Error::invalid(error.to_string())),
        };
        if let Some(name) = &name
            && let Some(found) = self.image_by_name(name)?
        {
            return Ok(found);
        }
        if is_id_part(text)
            && let Some(image) = self.image_by_id_part(text)?
        {
            return Ok(Found { image, by: None });
        }
        let Some(name) = name else {
            return Err(missing());
        };
        match self.image_by_short_name(text, &name)? {
            Some(found) => Ok(found),
            None => Err(Error::NoSuchImage(name.familiar())),
        }
    }

    fn image_by_id(&self, digest: Digest) -> Option<Result<Found>> {
        let image = self.store.image(&ImageId(digest)).transpose()?;
        Some(
            image
                .map(|image| Found { image, by: None })
                .map_err(Error::from),
        )
    }

    fn image_by_name(&self, name: &Reference) -> Result<Option<Found>> {
        // A name with both is the digest's: the tag may have moved.
        let exact = match name.digest() {
            Some(digest) => name.with_digest(*digest),
            None => name.clone(),
        };
        let Some(id) = self.store.resolve(&exact.to_string())? else {
            return Ok(None);
        };
        Ok(self.store.image(&id)?.map(|image| Found {
            image,
            by: Some(exact),
        }))
    }

    fn image_by_id_part(&self, text: &str) -> Result<Option<Image>> {
        let part = text.strip_prefix("sha256:").unwrap_or(text);
        let mut fitting = self
            .store
            .images()?
            .into_iter()
            .filter(|image| image.id.digest().hex().starts_with(part));
        let (first, second) = (fitting.next(), fitting.next());
        let (Some(first), Some(second)) = (&first, &second) else {
            return Ok(first);
        };
        let mut candidates = vec![first.id.to_string(), second.id.to_string()];
        candidates.extend(fitting.map(|image| image.id.to_string()));
        Err(Error::Ambiguous {
            name: text.to_owned(),
            candidates,
        })
    }

    /// nacre's own rule: a name without a registry also finds the one local image whose repository ends with it.
    fn image_by_short_name(&self, text: &str, name: &Reference) -> Result<Option<Found>> {
        let names = self.store.images()?;
        let names = names
            .iter()
            .flat_map(|image| references(image).map(move |name| (name, image)));
        let fitting: Vec<(Reference, &Image)> = names
            .filter(|(known, _)| ends_with(known, text, name))
            .collect();
        match fitting.as_slice() {
            [] => Ok(None),
            [(by, image), rest @ ..] if rest.iter().all(|(_, other)| other.id == image.id) => {
                Ok(Some(Found {
                    image: (*image).clone(),
                    by: Some(by.clone()),
                }))
            }
            many => Err(Error::Ambiguous {
                name: text.to_owned(),
                candidates: many.iter().map(|(name, _)| name.familiar()).collect(),
            }),
        }
    }

    /// Lists images, newest first. `all` also lists nameless ones that others were committed from.
    pub fn list_images(&self, filters: &Filters, all: bool) -> Result<Vec<Listed>> {
        filters.only(&["dangling", "label", "before", "since", "until", "reference"])?;
        let wanted = Wanted::new(self, filters, all)?;
        let images = self.store.images()?;
        let parents: Vec<ImageId> = images.iter().filter_map(|image| image.parent).collect();
        let used = self.containers.images();
        let mut listed = Vec::with_capacity(images.len());
        for image in images {
            let containers = used.iter().filter(|id| **id == image.id).count();
            listed.extend(wanted.judge(image, &parents, containers)?);
        }
        Ok(listed)
    }

    /// Gives an image one more name.
    pub fn tag(&self, source: &str, repository: &str, tag: &str) -> Result<()> {
        let found = self.find_image(source)?;
        let name = target_name(repository, tag)?;
        self.store.tag(&name.to_string(), &found.image.id)?;
        self.tell_image("tag", &found.image.id, &name.familiar());
        Ok(())
    }

    /// Removes an image or one of its names, by docker's rules.
    pub fn remove_image(&self, text: &str, options: Options) -> Result<Vec<Step>> {
        let _pruning = self.removing.lock();
        let found = self.find_image(text)?;
        let target = match found.by {
            Some(name) => Target::Name(found.image.id, name),
            None => Target::Image(found.image.id),
        };
        remove::remove(self, &target, options)
    }

    /// Removes images that nothing needs: nameless ones, or without `dangling` every unused one.
    pub fn prune_images(&self, filters: &Filters) -> Result<Pruned> {
        filters.only(&["dangling", "label", "label!", "until"])?;
        let _pruning = self.try_prune()?;
        let dangling_only = filters.flag("dangling")?.unwrap_or(true);
        let until = point(filters, "until")?;
        let mut pruned = Pruned::default();
        for listed in self.list_images(&Filters::default(), true)? {
            let labels = listed.labels.clone().unwrap_or_default();
            let old_enough = until.is_none_or(|until| created(&listed.image).unwrap_or(0) < until);
            let unlabelled =
                filters.get("label!").is_empty() || !filters.labels_match("label!", &labels);
            let idle = self.users(&listed.image.id)?.is_empty();
            let named = !listed.tags.is_empty();
            if !(old_enough && filters.labels_match("label", &labels) && unlabelled && idle) {
                continue;
            }
            if (named && dangling_only)
                || self.has_children(&listed.image.id)?
                || self.store.image(&listed.image.id)?.is_none()
            {
                continue;
            }
            self.prune_one(&listed.image, &mut pruned)?;
        }
        // What broken-off pulls have left may be all that there is to take, when a full disk is why they broke off.
        let swept = self.store.sweep()?;
        pruned.bytes = pruned.bytes.saturating_add(swept.content_bytes);
        Ok(pruned)
    }

    fn prune_one(&self, image: &Image, pruned: &mut Pruned) -> Result<()> {
        let sizes: BTreeMap<String, u64> = image
            .layers
            .iter()
            .map(|layer| (layer.chain.to_string(), layer.content_bytes))
            .collect();
        let options = Options {
            force: true,
            keep_parents: false,
        };
        let steps = remove::remove(self, &Target::Image(image.id), options)?;
        for step in &steps {
            if let Step::Deleted(digest) = step {
                pruned.bytes = pruned
                    .bytes
                    .saturating_add(sizes.get(digest).copied().unwrap_or(0));
            }
        }
        pruned.steps.extend(steps);
        Ok(())
    }

    fn try_prune(&self) -> Result<MutexGuard<'_, ()>> {
        self.removing
            .try_lock()
            .ok_or_else(|| Error::conflict("a prune operation is already running"))
    }

    pub(crate) fn tell_image(&self, action: &str, id: &ImageId, name: &str) {
        self.events.tell(
            "image",
            action,
            &id.to_string(),
            attributes([("name", name)]),
        );
    }
}

/// Reads where a tag, a commit or an import goes. `repository` may hold the tag itself.
pub(crate) fn target_name(repository: &str, tag: &str) -> Result<Reference> {
    let name = Reference::parse(repository).map_err(|e| Error::invalid(e.to_string()))?;
    if name.digest().is_some() {
        return Err(Error::invalid(
            "refusing to create a tag with a digest reference",
        ));
    }
    if name.familiar().split(':').next() == Some("sha256") {
        return Err(Error::invalid(
            "refusing to create an ambiguous tag using digest algorithm as name",
        ));
    }
    if tag.is_empty() {
        return Ok(name.or_latest());
    }
    name.with_tag(tag)
        .map_err(|_| Error::invalid(format!("invalid tag format: {tag:?}")))
}

fn is_id_part(text: &str) -> bool {
    let part = text.strip_prefix("sha256:").unwrap_or(text);
    !part.is_empty()
        && part
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Says whether `known` is what a user may mean by `text`, parsed as `name`: the same tag, and a repository that ends with
/// the same components. A name that says where it is from must say it whole.
fn ends_with(known: &Reference, text: &str, name: &Reference) -> bool {
    let written = text.split(['@', ':']).next().unwrap_or_default();
    let has_domain =
        name.path() != written && name.path().strip_prefix("library/") != Some(written);
    let same = known.tag() == name.tag() && known.digest() == name.digest();
    let repository = known.repository();
    let head = repository.strip_suffix(written);
    !has_domain && same && head.is_some_and(|head| head.ends_with('/'))
}

/// Reads a filter that is a point in time.
fn point(filters: &Filters, key: &str) -> Result<Option<Nanos>> {
    let mut earliest: Option<Nanos> = None;
    for text in filters.get(key) {
        let bad = || Error::invalid(format!("invalid filter '{key}={text}'"));
        let time = when::point(text, when::now()).ok_or_else(bad)?;
        earliest = Some(earliest.map_or(time, |other| other.min(time)));
    }
    Ok(earliest)
}

/// A list's filters, looked up once.
struct Wanted<'a> {
    filters: &'a Filters,
    all: bool,
    dangling: Option<bool>,
    /// Made strictly before this.
    before: Option<Nanos>,
    /// Made strictly after this.
    since: Option<Nanos>,
}

impl<'a> Wanted<'a> {
    fn new(engine: &Engine, filters: &'a Filters, all: bool) -> Result<Wanted<'a>> {
        let times = |key: &str| -> Result<Vec<Nanos>> {
            let of = |text: &String| Ok(created(&engine.find_image(text)?.image).unwrap_or(0));
            filters.get(key).iter().map(of).collect()
        };
        let before = times("before")?
            .into_iter()
            .chain(point(filters, "until")?)
            .min();
        let since = times("since")?.into_iter().max();
        Ok(Wanted {
            filters,
            all,
            dangling: filters.flag("dangling")?,
            before,
            since,
        })
    }

    fn judge(
        &self,
        image: Image,
        parents: &[ImageId],
        containers: usize,
    ) -> Result<Option<Listed>> {
        let config = ImageConfig::parse(&image.id, &image.config)?;
        let made = when::parse(config.text("created"));
        let labels = config.config().labels;
        let time = made.unwrap_or(0);
        let in_time = self.before.is_none_or(|t| time < t) && self.since.is_none_or(|t| time > t);
        let empty = BTreeMap::new();
        if !in_time
            || !self
                .filters
                .labels_match("label", labels.as_ref().unwrap_or(&empty))
        {
            return Ok(None);
        }
        let (mut tags, mut digests) = (tags(&image), digests(&image));
        let is_dangling = tags.is_empty();
        let is_parent = parents.contains(&image.id);
        let hidden = match self.dangling {
            Some(true) => !is_dangling || is_parent,
            Some(false) => is_dangling,
            None => is_dangling && is_parent && !self.all,
        };
        if hidden {
            return Ok(None);
        }
        if self.filters.has("reference") {
            tags.retain(|name| self.names(name));
            digests.retain(|name| self.names(name));
            if tags.is_empty() && digests.is_empty() {
                return Ok(None);
            }
        }
        let created = made.map_or(0, |time| time.div_euclid(when::SECOND));
        Ok(Some(Listed {
            image,
            tags,
            digests,
            created,
            labels,
            containers,
        }))
    }

    /// The familiar name, with or without its tag, fits one of the patterns.
    fn names(&self, name: &Reference) -> bool {
        let (whole, repository) = (name.familiar(), name.familiar_repository());
        let fits = |pattern: &String, text: &str| glob::matches(pattern, text).unwrap_or(false);
        self.filters
            .get("reference")
            .iter()
            .any(|pattern| fits(pattern, &whole) || fits(pattern, &repository))
    }
}

impl Library for Engine {
    fn refs(&self, image: &ImageId) -> Result<Vec<Reference>> {
        Ok(self
            .store
            .image(image)?
            .iter()
            .flat_map(references)
            .collect())
    }

    fn parent(&self, image: &ImageId) -> Result<Option<ImageId>> {
        Ok(self.store.image(image)?.and_then(|image| image.parent))
    }

    fn has_children(&self, image: &ImageId) -> Result<bool> {
        Ok(self
            .store
            .images()?
            .iter()
            .any(|other| other.parent == Some(*image)))
    }

    fn users(&self, image: &ImageId) -> Result<Vec<User>> {
        let mut users = self.containers.users(image);
        users.extend(self.mounts.users(image));
        users.sort_by_key(|user| !user.active);
        Ok(users)
    }

    fn untag(&self, image: &ImageId, name: &Reference) -> Result<()> {
        self.store.untag(&name.to_string())?;
        self.tell_image("untag", image, &name.familiar());
        Ok(())
    }

    fn delete(&self, image: &ImageId) -> Result<Vec<ChainId>> {
        let removed = self.store.remove_image(image)?;
        self.tell_image("delete", image, &image.to_string());
        Ok(removed.chains)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn fits(known: &str, text: &str) -> bool {
        ends_with(
            &Reference::parse(known).unwrap(),
            text,
            &Reference::parse(text).unwrap().or_latest(),
        )
    }

    #[test]
    fn a_short_name_finds_the_end_of_a_repository() {
        assert!(fits("127.0.0.1:5000/debian-min:latest", "debian-min"));
        assert!(fits("127.0.0.1:5000/debian-min:v2", "debian-min:v2"));
        assert!(fits("quay.io/team/tool:latest", "team/tool"));
        assert!(!fits("127.0.0.1:5000/my-debian-min:latest", "debian-min"));
        assert!(!fits("127.0.0.1:5000/debian-min:v1", "debian-min"));
        assert!(!fits("other.io/team/tool:latest", "quay.io/team/tool"));
    }

    #[test]
    fn parts_of_ids_are_hex() {
        assert!(is_id_part("4f2a") && is_id_part("sha256:4f"));
        assert!(!is_id_part("web") && !is_id_part("") && !is_id_part("4F"));
    }

    #[test]
    fn target_names_take_the_tag_apart_or_within() {
        assert_eq!(target_name("site:v2", "").unwrap().familiar(), "site:v2");
        assert_eq!(target_name("site", "v3").unwrap().familiar(), "site:v3");
        assert_eq!(target_name("site", "").unwrap().familiar(), "site:latest");
        assert!(target_name("Site", "").is_err());
        assert!(target_name("site", "a b").is_err());
        // It would hide images whose ID begins so.
        assert!(target_name("sha256:abc", "").is_err());
        assert!(target_name("sha256", "abc").is_err());
        assert!(target_name("sha2567", "abc").is_ok());
        assert!(target_name("127.0.0.1:5000/sha256", "abc").is_ok());
    }
}
