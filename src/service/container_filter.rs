//! The filters of the container list, in docker's words. Reads only.

use std::collections::BTreeMap;

use crate::engine::{Container, Engine, Error, Filters, Phase};
use crate::runtime::spec::Network;

/// The keys that are understood.
const KEYS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// The states that docker knows.
const STATES: &[&str] = &[
    "created",
    "restarting",
    "running",
    "removing",
    "paused",
    "exited",
    "dead",
];

/// A list's filters, looked up once.
pub(crate) struct Wanted<'a> {
    filters: &'a Filters,
    exited: Vec<i32>,
    before: Option<i64>,
    since: Option<i64>,
    ancestors: Vec<nacre_store::ImageId>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn new(engine: &Engine, filters: &'a Filters) -> Result<Wanted<'a>, Error> {
        filters.only(KEYS)?;
        if let Some(state) = filters
            .get("status")
            .iter()
            .find(|state| !STATES.contains(&state.as_str()))
        {
            let states = STATES.join(", ");
            return Err(Error::invalid(format!(
                "invalid filter 'status={state}': invalid value for state ({state}): must be one of {states}"
            )));
        }
        let code = |text: &String| {
            text.parse()
                .map_err(|_| Error::invalid(format!("invalid filter 'exited={text}'")))
        };
        let created = |key: &str| -> Result<Vec<i64>, Error> {
            filters
                .get(key)
                .iter()
                .map(|name| Ok(engine.container(name)?.created))
                .collect()
        };
        // An ancestor that is not there has no descendants.
        let ancestors = filters
            .get("ancestor")
            .iter()
            .filter_map(|name| engine.find_image(name).ok());
        Ok(Wanted {
            filters,
            exited: filters
                .get("exited")
                .iter()
                .map(code)
                .collect::<Result<_, _>>()?,
            before: created("before")?.into_iter().min(),
            since: created("since")?.into_iter().max(),
            ancestors: ancestors.map(|found| found.image.id).collect(),
        })
    }

    pub(crate) fn takes(&self, engine: &Engine, container: &Container) -> bool {
        let filters = self.filters;
        let any = |key: &str, fits: &dyn Fn(&str) -> bool| {
            !filters.has(key) || filters.get(key).iter().any(|value| fits(value))
        };
        let config = &container.config;
        let empty = BTreeMap::new();
        let state = &container.state;
        let network = match container.host.network {
            Network::Host => "host",
            Network::None => "none",
        };
        let exposed = |wanted: &str| {
            let wanted = if wanted.contains('/') {
                wanted.to_owned()
            } else {
                format!("{wanted}/tcp")
            };
            config
                .exposed_ports
                .as_ref()
                .is_some_and(|ports| ports.contains_key(&wanted))
        };
        let mounted = |wanted: &str| {
            container
                .shown_mounts()
                .iter()
                .any(|mount| mount.target == wanted || mount.source == wanted)
        };
        any("id", &|wanted| pattern(wanted, container.id.as_str()))
            && any("name", &|wanted| {
                pattern(wanted, &container.name) || pattern(wanted, &format!("/{}", container.name))
            })
            && filters.labels_match("label", config.labels.as_ref().unwrap_or(&empty))
            && (self.exited.is_empty()
                || state.phase == Phase::Exited && self.exited.contains(&state.exit_code))
            && any("status", &|wanted| wanted == state.phase.word())
            && any("health", &|wanted| wanted == "none")
            && any("is-task", &|wanted| matches!(wanted, "false" | "0"))
            && any("network", &|wanted| wanted == network)
            && any("publish", &|_| false)
            && any("expose", &exposed)
            && any("volume", &mounted)
            && self.before.is_none_or(|time| container.created < time)
            && self.since.is_none_or(|time| container.created > time)
            && (!filters.has("ancestor") || engine.descends(&container.image, &self.ancestors))
    }
}

/// docker takes a regular expression; of that only the anchors and plain text are understood, which is what is used.
fn pattern(wanted: &str, text: &str) -> bool {
    let (start, wanted) = wanted
        .strip_prefix('^')
        .map_or((false, wanted), |rest| (true, rest));
    let (end, wanted) = wanted
        .strip_suffix('$')
        .map_or((false, wanted), |rest| (true, rest));
    match (start, end) {
        (true, true) => text == wanted,
        (true, false) => text.starts_with(wanted),
        (false, true) => text.ends_with(wanted),
        (false, false) => text.contains(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn anchors_and_plain_text_are_understood() {
        assert!(pattern("web", "my-web-1") && pattern("^web", "web1") && pattern("^/web$", "/web"));
        assert!(!pattern("^web", "my-web") && !pattern("^web$", "web1"));
    }
}
