//! nacre's command line: arguments, the API's types and client, and everything
//! that is drawn. It never touches the store: it asks the service.

pub mod api;
mod args;
mod attach;
mod client;
mod command;
mod credentials;
mod docker_config;
mod draw;
mod error;
mod format;
#[doc(hidden)]
pub mod fuzzing;
mod main_command;
mod mount_helper;
mod reference;
mod service_program;
mod session;
mod settings;

pub use credentials::{UnusableConfig, credentials};
pub use main_command::{main, run, service_of};
pub use service_program::BACKGROUND_NAME;
pub use settings::{
    Hooks, Limit, MirrorRule, ROOT_DEFAULT, SOCKET_DEFAULT, ServiceOptions, Settings, Starting,
};
