//! What a container inherits from its image (docker-behaviour: the merge rule of create). Pure.

use std::collections::{BTreeMap, HashSet};

use super::config::Config;
use super::error::{Error, Result};
use super::variables::{Variables, name_of};

/// Fills what `own` leaves open from `image`: User, WorkingDir and StopSignal if empty, Env by name, Labels by key,
/// ExposedPorts and Volumes all, Cmd only if no entrypoint was given, Entrypoint only if none was given.
pub(crate) fn inherit(own: &mut Config, image: &Config) {
    fill(&mut own.user, &image.user);
    fill(&mut own.working_dir, &image.working_dir);
    fill(&mut own.stop_signal, &image.stop_signal);
    unite(&mut own.exposed_ports, image.exposed_ports.as_ref());
    unite(&mut own.volumes, image.volumes.as_ref());
    unite(&mut own.labels, image.labels.as_ref());
    inherit_env(own, image);
    if own.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if own.cmd.as_ref().is_none_or(Vec::is_empty) {
            own.cmd.clone_from(&image.cmd);
        }
        if own.entrypoint.is_none() {
            own.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if own
        .healthcheck
        .as_ref()
        .is_none_or(serde_json::Value::is_null)
    {
        own.healthcheck.clone_from(&image.healthcheck);
    }
    if own.stop_timeout.is_none() {
        own.stop_timeout = image.stop_timeout;
    }
    if own.shell.is_none() {
        own.shell.clone_from(&image.shell);
    }
}

fn fill(own: &mut String, image: &str) {
    if own.is_empty() {
        image.clone_into(own);
    }
}

/// Adds what the image has and the container has not; the container's own value wins.
fn unite<V: Clone>(own: &mut Option<BTreeMap<String, V>>, image: Option<&BTreeMap<String, V>>) {
    for (key, value) in image.into_iter().flatten() {
        own.get_or_insert_default()
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
}

/// The container's variables first and in its order, then the image's that it does not set.
fn inherit_env(own: &mut Config, image: &Config) {
    let set: HashSet<&str> = own.env.iter().flatten().map(|e| name_of(e)).collect();
    let inherited = image
        .env
        .iter()
        .flatten()
        .filter(|entry| !set.contains(name_of(entry)));
    let inherited: Vec<String> = inherited.cloned().collect();
    if !inherited.is_empty() {
        own.env.get_or_insert_default().extend(inherited);
    }
}

/// Returns the program and its arguments.
pub(crate) fn command(config: &Config) -> Result<(String, Vec<String>)> {
    // `--entrypoint ""` arrives as [""]: it takes the image's entrypoint away and stands for none itself.
    let entrypoint = config
        .entrypoint
        .iter()
        .flatten()
        .filter(|word| !word.is_empty());
    let mut words = entrypoint.chain(config.cmd.iter().flatten()).cloned();
    let program = words
        .next()
        .ok_or_else(|| Error::invalid("no command specified"))?;
    Ok((program, words.collect()))
}

/// Returns the environment: docker's own variables first, then the configuration's, which win.
pub(crate) fn environment(config: &Config, hostname: &str) -> Vec<String> {
    let mut env = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={hostname}"),
    ];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    override_env(&mut env, config.env.as_deref().unwrap_or_default());
    env
}

/// Sets `changes` in `env` by name; an entry without `=` takes the variable away.
pub(crate) fn override_env(env: &mut Vec<String>, changes: &[String]) {
    let mut variables = Variables::new(std::mem::take(env));
    for change in changes {
        variables.set(change);
    }
    *env = variables.into_entries();
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|w| (*w).to_owned()).collect())
    }

    fn image() -> Config {
        Config {
            entrypoint: list(&["/entry"]),
            cmd: list(&["serve"]),
            env: list(&["PATH=/bin", "A=image"]),
            user: "app".into(),
            ..Config::default()
        }
    }

    fn merged(mut own: Config) -> Config {
        inherit(&mut own, &image());
        own
    }

    #[test]
    fn an_empty_request_inherits_entrypoint_and_cmd() {
        let own = merged(Config::default());
        assert_eq!(
            command(&own).unwrap(),
            ("/entry".to_owned(), vec!["serve".to_owned()])
        );
        assert_eq!(own.user, "app");
    }

    #[test]
    fn a_command_replaces_cmd_and_keeps_the_entrypoint() {
        let own = merged(Config {
            cmd: list(&["x", "y"]),
            ..Config::default()
        });
        assert_eq!(
            command(&own).unwrap(),
            ("/entry".to_owned(), vec!["x".to_owned(), "y".to_owned()])
        );
    }

    #[test]
    fn an_entrypoint_stops_cmd_from_being_inherited() {
        let own = merged(Config {
            entrypoint: list(&["/mine"]),
            ..Config::default()
        });
        assert_eq!(command(&own).unwrap(), ("/mine".to_owned(), vec![]));
    }

    #[test]
    fn an_empty_entrypoint_clears_both() {
        let own = merged(Config {
            entrypoint: list(&[""]),
            ..Config::default()
        });
        assert!(
            command(&own)
                .unwrap_err()
                .to_string()
                .contains("no command specified")
        );
        let own = merged(Config {
            entrypoint: list(&[""]),
            cmd: list(&["sh"]),
            ..Config::default()
        });
        assert_eq!(command(&own).unwrap().0, "sh");
    }

    #[test]
    fn variables_merge_by_name_and_the_containers_win() {
        let own = merged(Config {
            env: list(&["A=own", "B=2"]),
            ..Config::default()
        });
        assert_eq!(own.env, list(&["A=own", "B=2", "PATH=/bin"]));
    }

    /// Each variable against each took minutes for what fits into one configuration.
    #[test]
    fn very_many_variables_are_no_more_work_each() {
        let many = |from: u32| Some((from..from + 300_000).map(|n| format!("V{n}=x")).collect());
        let start = std::time::Instant::now();
        let mut own = Config {
            env: many(150_000),
            ..Config::default()
        };
        let image = Config {
            env: many(0),
            ..Config::default()
        };
        inherit(&mut own, &image);
        assert_eq!(environment(&own, "box").len(), 450_000 + 2);
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    #[test]
    fn a_bare_name_takes_a_variable_away() {
        let config = Config {
            env: list(&["HOSTNAME", "X=1"]),
            ..Config::default()
        };
        let env = environment(&config, "box");
        assert!(env.contains(&"X=1".to_owned()));
        assert!(!env.iter().any(|e| e.starts_with("HOSTNAME")));
    }
}
