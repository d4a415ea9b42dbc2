//! Tests over sockets, in one binary: each against a server of its own on a port of its own.

mod certs;
mod client;
mod fake;
