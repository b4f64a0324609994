//! nacre's command line: arguments, the API's types and client, and everything
//! that is drawn. It never touches the store: it asks the service.

pub mod api;
mod args;
mod attach;
mod client;
mod command;
mod docker_config;
mod draw;
mod error;
mod format;
#[doc(hidden)]
pub mod fuzzing;
mod main_command;
mod mount_helper;
mod reference;
mod session;
mod settings;

pub use main_command::{main, run, service_of};
pub use settings::{
    Hooks, Limit, MirrorRule, ROOT_DEFAULT, SOCKET_DEFAULT, ServiceOptions, Settings, Starting,
};
