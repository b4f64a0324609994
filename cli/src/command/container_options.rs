//! The flags that say how a container is made: `run` and `create`.

use std::path::{Path, PathBuf};

use super::pull::PullPolicy;
use crate::api::{
    ContainerConfig, ContainerCreateRequest, HostConfig, LogConfig, RestartPolicy, StringMap,
    StringSet, Ulimit,
};
use crate::args::values::{self, Stream};
use crate::attach::terminal::size;
use crate::error::{Error, Result};
use crate::settings::absolute;

/// What a seccomp profile may have: docker's own is 12 KiB.
const PROFILE_BYTES_MAX: u64 = 4 << 20;

/// The flags.
#[derive(clap::Args)]
pub(crate) struct ContainerOptions {
    /// Attach only to these: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM", value_parser = values::stream)]
    pub(super) attach: Vec<Stream>,

    /// Add a capability
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,

    /// Take a capability away
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,

    /// Run this instead of the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,

    /// Set a variable: NAME=value, or NAME for its value here
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = values::env)]
    env: Vec<String>,

    /// Set the variables of a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// The container's host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,

    /// Keep its input open even if nobody is attached
    #[arg(short, long)]
    pub(super) interactive: bool,

    /// Set a label
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,

    /// Set the labels of a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,

    /// The container's name [default: made up]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,

    /// The container's network: none or host
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Option<String>,

    /// Choose from an image for several platforms: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    pub(super) platform: Option<String>,

    /// Give it all capabilities and devices
    #[arg(long)]
    privileged: bool,

    /// When to pull the image: always, missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: String,

    /// Say nothing while pulling
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Make its root filesystem read-only
    #[arg(long)]
    read_only: bool,

    /// Remove the container when it ends
    #[arg(long)]
    pub(super) rm: bool,

    /// seccomp=FILE, seccomp=unconfined, no-new-privileges …
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,

    /// The signal that stops it [default: the image's, or TERM]
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,

    /// Seconds between the stop signal and KILL
    #[arg(long, value_name = "SECONDS", value_parser = values::int, allow_negative_numbers = true)]
    stop_timeout: Option<i64>,

    /// Mount a tmpfs: /dir[:options]
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    tmpfs: Vec<String>,

    /// Give it a terminal
    #[arg(short, long)]
    pub(super) tty: bool,

    /// Limit its processes: NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT", value_parser = values::ulimit)]
    ulimit: Vec<Ulimit>,

    /// The user (and group) that it runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Show a directory of the host in it: /host/dir:/dir[:ro]
    #[arg(short = 'v', long = "volume", value_name = "SOURCE:DIR[:OPTIONS]")]
    volumes: Vec<String>,

    /// The directory that it starts in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
}

impl ContainerOptions {
    /// When the image is pulled.
    pub(super) fn pull_policy(&self) -> Result<PullPolicy> {
        match self.pull.as_str() {
            "always" => Ok(PullPolicy::Always),
            "missing" => Ok(PullPolicy::Missing),
            "never" => Ok(PullPolicy::Never),
            other => Err(Error::said(format!(
                "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
            ))),
        }
    }

    /// Says whether a stream is attached: the ones that were named, or output
    /// and, with `-i`, input.
    fn attaches(&self, stream: Stream, detached: bool) -> bool {
        if detached {
            return false;
        }
        if self.attach.is_empty() {
            return stream != Stream::Stdin || self.interactive;
        }
        self.attach.contains(&stream)
    }

    /// The request that makes the container. Its image and command are the
    /// words after the flags.
    pub(super) fn request(
        &self,
        words: &[String],
        detached: bool,
    ) -> Result<ContainerCreateRequest> {
        let (image, command) = match words.split_first() {
            Some((image, command)) => (image.clone(), command),
            None => return Err(Error::said("invalid reference format")),
        };
        let (binds, anonymous) = self.binds_and_volumes()?;
        let attach_stdin = self.attaches(Stream::Stdin, detached);
        let config = ContainerConfig {
            hostname: self.hostname.clone().unwrap_or_default(),
            user: self.user.clone().unwrap_or_default(),
            attach_stdin,
            attach_stdout: self.attaches(Stream::Stdout, detached),
            attach_stderr: self.attaches(Stream::Stderr, detached),
            tty: self.tty,
            open_stdin: self.interactive,
            stdin_once: self.interactive && attach_stdin,
            env: some(self.environment()?),
            cmd: some(command.to_vec()),
            image,
            volumes: Some(anonymous),
            working_dir: self.workdir.clone().unwrap_or_default(),
            entrypoint: self.entrypoint.clone().map(|command| vec![command]),
            labels: Some(self.labels()?),
            stop_signal: self.stop_signal.clone().unwrap_or_default(),
            stop_timeout: self.stop_timeout,
            ..ContainerConfig::default()
        };
        Ok(ContainerCreateRequest {
            config,
            host_config: self.host_config(binds)?,
            ..ContainerCreateRequest::default()
        })
    }

    fn host_config(&self, binds: Vec<String>) -> Result<HostConfig> {
        let tmpfs: StringMap = self
            .tmpfs
            .iter()
            .map(|word| match word.split_once(':') {
                Some((dir, options)) => (dir.to_owned(), options.to_owned()),
                None => (word.clone(), String::new()),
            })
            .collect();
        let console_size = size()
            .filter(|_| self.tty)
            .map_or([0, 0], |(rows, columns)| {
                [u32::from(rows), u32::from(columns)]
            });
        let capabilities =
            |words: &[String]| some(words.iter().map(|word| values::capability(word)).collect());
        Ok(HostConfig {
            binds: some(binds),
            log_config: LogConfig::default(),
            network_mode: self.network.clone().unwrap_or_else(|| "default".to_owned()),
            restart_policy: RestartPolicy {
                name: "no".to_owned(),
                maximum_retry_count: 0,
            },
            auto_remove: self.rm,
            console_size,
            cap_add: capabilities(&self.cap_add),
            cap_drop: capabilities(&self.cap_drop),
            privileged: self.privileged,
            readonly_rootfs: self.read_only,
            security_opt: some(self.security_options()?),
            tmpfs: (!tmpfs.is_empty()).then_some(tmpfs),
            ulimits: some(self.ulimit.clone()),
            ..HostConfig::default()
        })
    }

    fn environment(&self) -> Result<Vec<String>> {
        let mut variables = Vec::new();
        for file in &self.env_file {
            variables.extend(values::resolved(&values::lines_of(file)?));
        }
        variables.extend(values::resolved(&self.env));
        Ok(variables)
    }

    fn labels(&self) -> Result<StringMap> {
        let mut labels = StringMap::new();
        for file in &self.label_file {
            labels.extend(values::labels(&values::lines_of(file)?));
        }
        labels.extend(values::labels(&self.label));
        Ok(labels)
    }

    /// Volumes with a source, and directories that get a volume of their own.
    fn binds_and_volumes(&self) -> Result<(Vec<String>, StringSet)> {
        let mut binds = Vec::new();
        let mut anonymous = StringSet::new();
        for volume in &self.volumes {
            match volume.split_once(':') {
                None => {
                    anonymous.insert(volume.clone(), crate::api::Nothing {});
                }
                // Only the client knows what a relative path is relative to.
                Some((source, rest)) if source.starts_with('.') => {
                    let source = absolute(Path::new(source))?;
                    binds.push(format!("{}:{rest}", plain(&source)?));
                }
                Some(_) => binds.push(volume.clone()),
            }
        }
        Ok((binds, anonymous))
    }

    /// A seccomp profile is a file here and its content there.
    fn security_options(&self) -> Result<Vec<String>> {
        self.security_opt
            .iter()
            .map(|option| {
                let profile = option
                    .split_once(['=', ':'])
                    .filter(|(key, value)| {
                        *key == "seccomp" && !matches!(*value, "unconfined" | "builtin")
                    })
                    .map(|(_, path)| Path::new(path));
                match profile {
                    Some(path) => Ok(format!("seccomp={}", seccomp_profile(path)?)),
                    None => Ok(option.clone()),
                }
            })
            .collect()
    }
}

fn seccomp_profile(path: &Path) -> Result<String> {
    let name = path.display().to_string();
    let what = format!("opening seccomp profile ({name}) failed");
    let fail = |source| Error::io(what.clone(), source);
    let size = std::fs::metadata(path).map_err(fail)?.len();
    if size > PROFILE_BYTES_MAX {
        return Err(Error::said(format!(
            "{what}: it has {size} bytes; at most {PROFILE_BYTES_MAX} are read"
        )));
    }
    let bytes = std::fs::read(path).map_err(fail)?;
    let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| {
        Error::said(format!(
            "compacting json for seccomp profile ({name}) failed: {error}"
        ))
    })?;
    Ok(json.to_string())
}

/// A path without `.` and `..`, which `std::path::absolute` keeps.
fn plain(path: &Path) -> Result<String> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::said(format!("{}: the path is not UTF-8", path.display())))
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
