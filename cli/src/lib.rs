//! nacre's command line: arguments, the API's types and client, and everything
//! that is drawn. It never touches the store: it asks the service.

pub mod api;
