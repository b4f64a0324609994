//! Doors for tests/fuzz: text of strangers, through the code that reads it. Nothing else uses them.

use serde_json::Value as Json;

use crate::format::{Functions, MissingKey, Template, Value};
use crate::reference::Reference;

/// What the command line takes a reference apart to.
#[derive(Debug, PartialEq, Eq)]
pub struct Parts {
    /// The registry.
    pub domain: String,
    /// The repository in it.
    pub path: String,
    /// The tag, if one was written.
    pub tag: Option<String>,
    /// The digest, if one was written.
    pub digest: Option<String>,
    /// The whole as people write it, without tag and digest.
    pub familiar: String,
}

/// Reads a reference; none where it is refused.
#[must_use]
pub fn reference(text: &str) -> Option<Parts> {
    let read = Reference::parse(text).ok()?;
    Some(Parts {
        familiar: read.familiar_name(),
        domain: read.domain,
        path: read.path,
        tag: read.tag,
        digest: read.digest,
    })
}

/// Parses a template and runs it over `data` in both modes of both settings; says whether it parsed.
pub fn template(source: &str, data: &Json) -> bool {
    let Ok(template) = Template::parse(source) else {
        return false;
    };
    let data = Value::from(data);
    for missing in [MissingKey::NoValue, MissingKey::Error] {
        for functions in [Functions::Real, Functions::Heading] {
            let mut out = String::new();
            // An error is a right answer too; what is looked for is a panic or no end.
            drop(template.run(&data, missing, functions, &mut out));
        }
    }
    true
}
