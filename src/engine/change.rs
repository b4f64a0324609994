//! The `-c` changes of commit and import: ten of a Dockerfile's instructions, applied to a configuration. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::config::Config;
use super::error::{Error, Result};
use super::variables::Variables;
use super::words::{self, expand, too_long};
use crate::transfer::CONFIG_BYTES_MAX;

/// Applies each change in turn. One string may hold several lines, as in a Dockerfile.
pub(crate) fn apply(config: &mut Config, changes: &[String]) -> Result<()> {
    let has_env = config.env.is_some();
    let mut changing = Changing {
        env: Variables::new(config.env.take().unwrap_or_default()),
        config,
        cmd_set: false,
        room: CONFIG_BYTES_MAX,
    };
    for change in changes {
        let joined = change.replace("\\\r\n", " ").replace("\\\n", " ");
        for line in joined.lines().map(str::trim) {
            if !line.is_empty() && !line.starts_with('#') {
                changing.apply_line(line)?;
            }
        }
    }
    let env = changing.env.into_entries();
    config.env = (has_env || !env.is_empty()).then_some(env);
    Ok(())
}

/// A configuration under change.
struct Changing<'a> {
    /// All but its variables.
    config: &'a mut Config,
    env: Variables,
    cmd_set: bool,
    /// How many bytes the changes may still make, so that no number of lines is more work than one configuration is.
    room: usize,
}

impl Changing<'_> {
    fn apply_line(&mut self, line: &str) -> Result<()> {
        let (instruction, rest) = split_word(line);
        match instruction.to_ascii_uppercase().as_str() {
            "CMD" => {
                self.config.cmd = Some(self.command(rest)?);
                self.cmd_set = true;
            }
            "ENTRYPOINT" => {
                self.config.entrypoint = Some(self.command(rest)?);
                // An inherited CMD was meant for the old entrypoint.
                if !self.cmd_set {
                    self.config.cmd = None;
                }
            }
            "ENV" => self.env(rest)?,
            "EXPOSE" => self.expose(rest)?,
            "LABEL" => {
                let pairs = self.pairs("LABEL", rest)?;
                self.config.labels.get_or_insert_default().extend(pairs);
            }
            "ONBUILD" => on_build(self.config, rest)?,
            "STOPSIGNAL" => {
                let name = self.word("STOPSIGNAL", rest)?;
                super::signal::parse(&name)?;
                self.config.stop_signal = name;
            }
            "USER" => self.config.user = self.word("USER", rest)?,
            "VOLUME" => self.volume(rest)?,
            "WORKDIR" => self.workdir(rest)?,
            "HEALTHCHECK" => self.config.healthcheck = Some(health_check(rest)?),
            other => {
                return Err(Error::invalid(format!(
                    "{} is not a valid change command",
                    other.to_lowercase()
                )));
            }
        }
        Ok(())
    }

    /// Takes from the room what a line makes beyond what stands in it.
    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.room = self.room.checked_sub(bytes).ok_or_else(too_long)?;
        Ok(())
    }

    fn expand(&mut self, word: &str) -> Result<String> {
        let expanded = expand(word, &self.env, self.room)?;
        self.spend(expanded.len())?;
        Ok(expanded)
    }

    /// A JSON list of words, or a line for the shell.
    fn command(&mut self, rest: &str) -> Result<Vec<String>> {
        if let Some(words) = json_words(rest) {
            return Ok(words);
        }
        let shell = self.config.shell.clone().filter(|shell| !shell.is_empty());
        let mut line = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        self.spend(line.iter().map(String::len).sum())?;
        line.push(rest.to_owned());
        Ok(line)
    }

    fn word(&mut self, instruction: &str, rest: &str) -> Result<String> {
        let mut all = words::split(need(instruction, rest)?)?.into_iter();
        match (all.next(), all.next()) {
            (Some(word), None) => self.expand(&word),
            _ => Err(Error::invalid(format!(
                "{instruction} requires exactly one argument"
            ))),
        }
    }

    /// `K=v K2="v 2"`, or the old form `K the rest of the line`.
    fn pairs(&mut self, instruction: &str, rest: &str) -> Result<Vec<(String, String)>> {
        let all = words::split(need(instruction, rest)?)?;
        if let Some(first) = all.first()
            && !first.contains('=')
        {
            let (key, value) = split_word(rest);
            if value.is_empty() {
                return Err(Error::invalid(format!(
                    "{instruction} must have two arguments"
                )));
            }
            return Ok(vec![(self.expand(key)?, self.expand(value)?)]);
        }
        let mut out = Vec::with_capacity(all.len());
        for word in &all {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                Error::invalid(format!(
                    "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
                ))
            })?;
            if key.is_empty() {
                return Err(Error::invalid(format!(
                    "{instruction} names can not be blank"
                )));
            }
            out.push((self.expand(key)?, self.expand(value)?));
        }
        Ok(out)
    }

    fn env(&mut self, rest: &str) -> Result<()> {
        // All values see the environment as it was before the line, so all are expanded first.
        for (key, value) in self.pairs("ENV", rest)? {
            self.env.set(&format!("{key}={value}"));
        }
        Ok(())
    }

    fn expose(&mut self, rest: &str) -> Result<()> {
        for word in words::split(need("EXPOSE", rest)?)? {
            let word = self.expand(&word)?;
            let (ports, protocol) = ports(&word)?;
            for port in ports {
                let shown = format!("{port}/{protocol}");
                self.spend(shown.len())?;
                let all = self.config.exposed_ports.get_or_insert_default();
                all.insert(shown, Value::Object(Map::new()));
            }
        }
        Ok(())
    }

    fn volume(&mut self, rest: &str) -> Result<()> {
        let all = match json_words(need("VOLUME", rest)?) {
            Some(all) => all,
            None => words::split(rest)?,
        };
        for word in all {
            let place = self.expand(word.trim())?;
            if place.is_empty() {
                return Err(Error::invalid(
                    "VOLUME specified can not be an empty string",
                ));
            }
            let volumes = self.config.volumes.get_or_insert_with(BTreeMap::new);
            volumes.insert(place, Value::Object(Map::new()));
        }
        Ok(())
    }

    fn workdir(&mut self, rest: &str) -> Result<()> {
        let place = self.expand(need("WORKDIR", rest)?)?;
        let from = if place.starts_with('/') {
            ""
        } else {
            self.config.working_dir.as_str()
        };
        let place = words::clean_path(&format!("{from}/{place}"));
        self.spend(place.len())?;
        self.config.working_dir = place;
        Ok(())
    }
}

fn split_word(line: &str) -> (&str, &str) {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (word, rest.trim())
}

fn json_words(rest: &str) -> Option<Vec<String>> {
    rest.starts_with('[')
        .then(|| serde_json::from_str(rest).ok())
        .flatten()
}

fn need<'a>(instruction: &str, rest: &'a str) -> Result<&'a str> {
    if rest.is_empty() {
        return Err(Error::invalid(format!(
            "{instruction} requires at least one argument"
        )));
    }
    Ok(rest)
}

/// The ports of a word of EXPOSE, and the protocol.
fn ports(word: &str) -> Result<(RangeInclusive<u16>, String)> {
    let bad = || Error::invalid(format!("invalid containerPort: {word}"));
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!("invalid proto: {protocol}")));
    }
    // `host:container` is taken for the container's side, as docker does.
    let range = range.rsplit(':').next().unwrap_or(range);
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    let (from, to): (u16, u16) = (
        from.parse().map_err(|_| bad())?,
        to.parse().map_err(|_| bad())?,
    );
    if from > to {
        return Err(bad());
    }
    Ok((from..=to, protocol))
}

fn on_build(config: &mut Config, rest: &str) -> Result<()> {
    let (trigger, _) = split_word(need("ONBUILD", rest)?);
    match trigger.to_ascii_uppercase().as_str() {
        "ONBUILD" => Err(Error::invalid(
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        )),
        name @ ("FROM" | "MAINTAINER") => Err(Error::invalid(format!(
            "{name} isn't allowed as an ONBUILD trigger"
        ))),
        _ => {
            config
                .on_build
                .get_or_insert_default()
                .push(rest.to_owned());
            Ok(())
        }
    }
}

/// docker's health check as its API has it: `Test` and the durations in nanoseconds.
fn health_check(rest: &str) -> Result<Value> {
    let mut check = Map::new();
    let mut rest = need("HEALTHCHECK", rest)?;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = split_word(option);
        rest = after;
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let bad = || Error::invalid(format!("invalid value for HEALTHCHECK --{key}: {value:?}"));
        let nanos = |text| super::when::duration(text).ok_or_else(bad).map(Value::from);
        match key {
            "interval" => check.insert("Interval".into(), nanos(value)?),
            "timeout" => check.insert("Timeout".into(), nanos(value)?),
            "start-period" => check.insert("StartPeriod".into(), nanos(value)?),
            "start-interval" => check.insert("StartInterval".into(), nanos(value)?),
            "retries" => check.insert(
                "Retries".into(),
                value.parse::<u32>().map_err(|_| bad())?.into(),
            ),
            _ => return Err(Error::invalid(format!("unknown flag: {key}"))),
        };
    }
    let (kind, line) = split_word(rest);
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" => vec!["NONE".to_owned()],
        "CMD" => match json_words(line) {
            Some(words) => [vec!["CMD".to_owned()], words].concat(),
            None => vec![
                "CMD-SHELL".to_owned(),
                need("HEALTHCHECK CMD", line)?.to_owned(),
            ],
        },
        _ => {
            return Err(Error::invalid(format!(
                "Unknown type {kind:?} in HEALTHCHECK (try CMD)"
            )));
        }
    };
    check.insert("Test".into(), test.into());
    Ok(Value::Object(check))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn after(changes: &[&str]) -> Result<Config> {
        let mut config = Config {
            env: Some(vec!["HOME=/root".into()]),
            cmd: Some(vec!["old".into()]),
            working_dir: "/srv".into(),
            ..Config::default()
        };
        let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
        apply(&mut config, &changes)?;
        Ok(config)
    }

    #[test]
    fn cmd_takes_json_or_a_line_for_the_shell() {
        assert_eq!(
            after(&[r#"CMD ["a","b c"]"#]).unwrap().cmd.unwrap(),
            ["a", "b c"]
        );
        assert_eq!(
            after(&["cmd echo hi"]).unwrap().cmd.unwrap(),
            ["/bin/sh", "-c", "echo hi"]
        );
        assert_eq!(
            after(&["CMD [broken"]).unwrap().cmd.unwrap(),
            ["/bin/sh", "-c", "[broken"]
        );
    }

    #[test]
    fn entrypoint_drops_an_inherited_cmd_but_not_one_of_the_same_changes() {
        assert_eq!(after(&[r#"ENTRYPOINT ["/e"]"#]).unwrap().cmd, None);
        assert_eq!(
            after(&[r#"CMD ["k"]"#, r#"ENTRYPOINT ["/e"]"#])
                .unwrap()
                .cmd
                .unwrap(),
            ["k"]
        );
    }

    #[test]
    fn env_has_two_forms_and_expands() {
        let env = after(&[r#"ENV A=1 B="two words" C=$HOME/x"#, "ENV HOME the rest"])
            .unwrap()
            .env
            .unwrap();
        assert_eq!(env, ["HOME=the rest", "A=1", "B=two words", "C=/root/x"]);
    }

    #[test]
    fn expose_takes_ranges_and_protocols() {
        let ports = after(&["EXPOSE 80 53/udp 8000-8002"])
            .unwrap()
            .exposed_ports
            .unwrap();
        let ports: Vec<&String> = ports.keys().collect();
        assert_eq!(
            ports,
            ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]
        );
        assert!(after(&["EXPOSE 70000"]).is_err());
        assert!(after(&["EXPOSE 9-8"]).is_err());
    }

    #[test]
    fn workdir_is_relative_to_the_last_one() {
        assert_eq!(
            after(&["WORKDIR app/../lib"]).unwrap().working_dir,
            "/srv/lib"
        );
        assert_eq!(
            after(&["WORKDIR /x", "WORKDIR y"]).unwrap().working_dir,
            "/x/y"
        );
    }

    #[test]
    fn health_checks_become_the_api_shape() {
        let check = after(&["HEALTHCHECK --interval=5s --retries=3 CMD curl -f x"])
            .unwrap()
            .healthcheck
            .unwrap();
        let wanted = serde_json::json!({"Interval": 5_000_000_000_i64, "Retries": 3, "Test": ["CMD-SHELL", "curl -f x"]});
        assert_eq!(check, wanted);
    }

    #[test]
    fn labels_volumes_and_several_lines_in_one_change() {
        let config =
            after(&["LABEL a=1 b=\"x y\"\nVOLUME /v1 /v2\nUSER app:grp\nSTOPSIGNAL SIGQUIT"])
                .unwrap();
        assert_eq!(config.labels.unwrap().get("b").unwrap(), "x y");
        assert_eq!(config.volumes.unwrap().len(), 2);
        assert_eq!(
            (config.user.as_str(), config.stop_signal.as_str()),
            ("app:grp", "SIGQUIT")
        );
    }

    #[test]
    fn other_instructions_are_refused_as_docker_does() {
        assert_eq!(
            after(&["RUN true"]).unwrap_err().to_string(),
            "run is not a valid change command"
        );
        assert!(after(&["ONBUILD FROM x"]).is_err());
        assert!(after(&["STOPSIGNAL SIGNOPE"]).is_err());
    }

    /// `$A$A` doubles with each line: sixty of them would be more than any memory.
    #[test]
    fn changes_that_grow_without_end_are_refused() {
        let growing = [
            "ENV A=$A$A",
            "ENV A=${A:-x}$A B=$A$A",
            "EXPOSE 1-65535",
            "WORKDIR deeper",
        ];
        for line in growing {
            let lines = format!("{line}\n").repeat(100_000);
            let start = std::time::Instant::now();
            let error = after(&["ENV A=x", &lines]).map(drop).unwrap_err();
            assert!(
                error.to_string().contains("4194304 bytes"),
                "{line}: {error}"
            );
            assert!(
                start.elapsed().as_secs() < 20,
                "{line}: {:?}",
                start.elapsed()
            );
        }
        let long = format!("ENV A={}\nENV B={}", "x".repeat(1 << 20), "$A".repeat(5));
        assert!(after(&[&long]).is_err());
        assert!(after(&[&long.replace("ENV B", "LABEL B")]).is_err());
        let ports = after(&["EXPOSE 1-65535 1-65535/udp"])
            .unwrap()
            .exposed_ports;
        assert_eq!(ports.unwrap().len(), 2 * 65535);
    }
}
