//! `service`, `completion`: the service itself, and the shell's help.

use std::path::PathBuf;

use clap_complete::{Shell, generate};

use crate::api::ShutdownRefusal;
use crate::args::{PROGRAM, shown_tree};
use crate::draw::{out, out_bytes};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::settings::{Limit, MirrorRule, ServiceOptions, absolute, limit, mirror_rule};

/// The flags of `service`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = EXAMPLES
)]
pub(crate) struct Args {
    /// End after so many seconds without use [default: never]
    #[arg(long, value_name = "SECONDS", conflicts_with = "stop")]
    idle: Option<u64>,

    /// Ask the service that runs to stop
    #[arg(long)]
    stop: bool,

    /// Reach this registry without verified TLS, or without TLS: HOST[:PORT] or a network (10.0.0.0/8)
    #[arg(long, value_name = "REGISTRY")]
    insecure_registry: Vec<String>,

    /// Look for certificates in DIR/HOST[:PORT] [default: /etc/docker/certs.d, /etc/containers/certs.d]
    #[arg(long, value_name = "DIR")]
    certs_dir: Vec<PathBuf>,

    /// Look for images under PREFIX at these places first: PREFIX=LOCATION[,LOCATION...]
    #[arg(long, value_name = "RULE", value_parser = mirror_rule)]
    mirror: Vec<MirrorRule>,

    /// The proxy for http:// [env: HTTP_PROXY]
    #[arg(long, value_name = "URL")]
    http_proxy: Option<String>,

    /// The proxy for https:// [env: HTTPS_PROXY]
    #[arg(long, value_name = "URL")]
    https_proxy: Option<String>,

    /// Hosts and networks that are reached without a proxy [env: NO_PROXY]
    #[arg(long, value_name = "LIST")]
    no_proxy: Option<String>,

    /// Until a connection to a registry must stand [default: 10]
    #[arg(long, value_name = "SECONDS")]
    connect_seconds: Option<u64>,

    /// Without a byte, before an exchange counts as broken [default: 60]
    #[arg(long, value_name = "SECONDS")]
    stall_seconds: Option<u64>,

    /// How often a short request to a registry is sent [default: 3]
    #[arg(long, value_name = "NUMBER")]
    request_attempts: Option<u32>,

    /// How often a layer's transfer is taken up again without having come further [default: 6]
    #[arg(long, value_name = "NUMBER")]
    blob_attempts: Option<u32>,

    /// Layers of one image that are fetched at once [default: 3]
    #[arg(long, value_name = "NUMBER")]
    layers_at_once: Option<u32>,

    /// Whether compressed layers are kept as received, to be pushed unchanged [default: true] [env: NACRE_KEEP_ARCHIVES]
    #[arg(long, value_name = "BOOL")]
    keep_archives: Option<bool>,

    /// Memory for what was read from the store's database, in bytes [default: 20971520]
    #[arg(long, value_name = "BYTES")]
    cache_bytes: Option<u64>,

    /// Refuse archives that ask for more: NAME=NUMBER (layer-bytes, entries, inflate-ratio, path-depth ...)
    #[arg(long, value_name = "LIMIT", value_parser = limit)]
    limit: Vec<(Limit, u64)>,
}

const EXAMPLES: &str = "Examples:
  nacre service                               in the foreground, for systemd or for debugging
  nacre --root /srv/nacre service
  nacre service --stop                        unless a mount or a container is in use
  nacre service --mirror docker.io/library=10.0.0.1:5000/hub,mirror.lan

Other commands start the service by themselves, and it ends by itself when nothing needs it.
Such a service is told by /etc/nacre/nacre.toml (--config, NACRE_CONFIG), which may hold:
  root = \"/var/lib/nacre\"
  host = \"unix:///run/nacre/nacre.sock\"
  idle-seconds = 60                               # 0: never
  insecure-registries = [\"10.0.0.0/8\", \"registry.lan:5000\"]
  certs-dirs = [\"/etc/docker/certs.d\", \"/etc/containers/certs.d\"]
  http-proxy = \"http://proxy.lan:3128\"
  https-proxy = \"http://proxy.lan:3128\"
  no-proxy = \"registry.lan,10.0.0.0/8\"
  connect-seconds = 10
  stall-seconds = 60
  request-attempts = 3
  blob-attempts = 6
  layers-at-once = 3
  keep-archives = true                            # false: less disk, and pushes under other digests
  cache-bytes = 20971520                          # memory for what was read from the store's database

  [[mirror]]                                      # in order; the registry itself comes last
  prefix = \"docker.io/library\"
  locations = [\"10.0.0.1:5000/hub\", \"https://mirror.lan\"]

  [limits]                                        # of one layer or one of its entries
  layer-bytes = 137438953472
  inflate-ratio = 512                             # looked at beyond inflate-grace-bytes
  inflate-grace-bytes = 4294967296
  entries = 10000000
  extension-bytes = 1048576
  global-bytes = 4096
  unplaced-bytes = 268435456
  path-depth = 4096
  xattr-bytes = 65536
  xattrs-bytes = 1048576
  sparse-extents = 1048576
  manifest-bytes = 4194304                        # of one that a registry sends
  layers = 1024                                   # of one image from a registry; never more

A flag counts more than a variable, a variable more than the file. The variable of a key is its name in capitals
behind NACRE_, as in NACRE_STALL_SECONDS=30; the proxies' are the usual ones. NACRE_INSECURE_REGISTRIES,
NACRE_CERTS_DIRS and NACRE_LIMITS (entries=1000,path-depth=99) separate by commas, the rules of NACRE_MIRRORS by
semicolons.";

/// Stops the service.
pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    if !args.stop {
        // The caller runs the foreground service outside of any runtime.
        return Err(Error::said("the service runs in the foreground only"));
    }
    match session.client.shutdown().await? {
        None => out("stopped\n"),
        Some(refusal) => Err(Error::said(in_use(&refusal))),
    }
}

fn in_use(refusal: &ShutdownRefusal) -> String {
    let mut text = format!("Error response from daemon: {}", refusal.message);
    for item in &refusal.in_use {
        text.push_str("\n  ");
        text.push_str(item);
    }
    text
}

/// How the foreground service is to run, if the command asks for it: flags over variables over the file.
pub(crate) fn foreground(args: &Args, file: ServiceOptions) -> Result<Option<ServiceOptions>> {
    if args.stop {
        return Ok(None);
    }
    let environment = ServiceOptions::of_environment(|name| std::env::var(name).ok())?;
    Ok(Some(
        file.under(environment).under(ServiceOptions {
            idle_seconds: args.idle,
            insecure_registries: args.insecure_registry.clone(),
            certs_dirs: args
                .certs_dir
                .iter()
                .map(|dir| absolute(dir))
                .collect::<Result<_>>()?,
            mirror: args.mirror.clone(),
            http_proxy: args.http_proxy.clone(),
            https_proxy: args.https_proxy.clone(),
            no_proxy: args.no_proxy.clone(),
            connect_seconds: args.connect_seconds,
            stall_seconds: args.stall_seconds,
            request_attempts: args.request_attempts,
            blob_attempts: args.blob_attempts,
            layers_at_once: args.layers_at_once,
            keep_archives: args.keep_archives,
            cache_bytes: args.cache_bytes,
            limits: args.limit.iter().copied().collect(),
            ..ServiceOptions::default()
        }),
    ))
}

/// The arguments of `completion`.
#[derive(clap::Args)]
#[command(
    override_usage = "SHELL",
    after_help = "Examples:
  nacre completion bash > /etc/bash_completion.d/nacre
  nacre completion zsh > \"${fpath[1]}/_nacre\"
  nacre completion fish > ~/.config/fish/completions/nacre.fish"
)]
pub(crate) struct CompletionArgs {
    /// bash, zsh, fish, elvish or powershell
    #[arg(required = true, hide = true, value_enum)]
    shell: Shell,
}

/// Prints a completion script.
pub(crate) fn completion(args: &CompletionArgs) -> Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut shown_tree(), PROGRAM, &mut script);
    out_bytes(&script)
}
