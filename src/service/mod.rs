//! docker's Engine API and nacre's own routes, on a Unix socket. Translates only; the engine does the work.
