//! An image's history, newest step first. Reads only.

use nacre_store::{Image, ImageId};

use super::config::ImageConfig;
use super::error::{Error, Result};
use super::{Engine, image, when};

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The image that the step made, where it is an image of this store.
    pub image: Option<ImageId>,
    /// Its tags, familiar.
    pub tags: Vec<String>,
    /// Seconds since the epoch; 0 if unknown.
    pub created: i64,
    /// By which command.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Bytes of regular files that it added.
    pub bytes: u64,
}

impl Engine {
    /// Returns the steps of an image.
    pub fn history(&self, name: &str) -> Result<Vec<Step>> {
        let image = self.find_image(name)?.image;
        let mut steps = steps(&image)?;
        // Each commit adds one step, so the parents' images belong to the steps below, one each.
        let mut next = Some(image);
        for step in &mut steps {
            let Some(made) = next else { break };
            step.image = Some(made.id);
            step.tags = image::tags(&made)
                .iter()
                .map(crate::reference::Reference::familiar)
                .collect();
            next = match made.parent {
                Some(parent) => self.store.image(&parent)?,
                None => None,
            };
        }
        Ok(steps)
    }
}

/// Reads the steps from the configuration, newest first, without images.
fn steps(image: &Image) -> Result<Vec<Step>> {
    let config = ImageConfig::parse(&image.id, &image.config)?;
    let mut layers = image.layers.iter();
    let mut steps = Vec::new();
    for entry in config.history() {
        let bytes = if entry.empty_layer.unwrap_or(false) {
            0
        } else {
            let layer = layers.next();
            layer
                .ok_or_else(|| Error::broken("too many non-empty layers in History section"))?
                .content_bytes
        };
        let created = entry.created.as_deref().and_then(when::parse);
        steps.push(Step {
            created: created.map_or(0, |time| time.div_euclid(when::SECOND)),
            created_by: entry.created_by.unwrap_or_default(),
            comment: entry.comment.unwrap_or_default(),
            bytes,
            ..Step::default()
        });
    }
    steps.reverse();
    Ok(steps)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use nacre_store::{ChainId, DiffId, Digest, LayerInfo};

    use super::*;

    fn image(history: &str, sizes: &[u64]) -> Image {
        let digest = Digest::of(b"x");
        let layer = |bytes: &u64| LayerInfo {
            chain: ChainId(digest),
            diff: DiffId(digest),
            archive: None,
            content_bytes: *bytes,
        };
        Image {
            id: ImageId(digest),
            config: format!("{{\"history\":{history}}}").into_bytes(),
            chain: None,
            layers: sizes.iter().map(layer).collect(),
            manifest: None,
            refs: Vec::new(),
            parent: None,
            tagged_at: 0,
        }
    }

    #[test]
    fn empty_layers_take_no_size() {
        let history = r#"[{"created":"1970-01-01T00:00:05Z","created_by":"ADD"},{"created_by":"CMD","empty_layer":true},{"created_by":"RUN"}]"#;
        let steps = steps(&image(history, &[7, 9])).unwrap();
        let seen: Vec<(&str, u64)> = steps
            .iter()
            .map(|s| (s.created_by.as_str(), s.bytes))
            .collect();
        assert_eq!(seen, [("RUN", 9), ("CMD", 0), ("ADD", 7)]);
        assert_eq!(steps.last().unwrap().created, 5);
    }

    #[test]
    fn more_steps_than_layers_are_told() {
        let error = steps(&image(r#"[{},{}]"#, &[1])).unwrap_err().to_string();
        assert_eq!(error, "too many non-empty layers in History section");
    }
}
