//! The documents say what the code does: each is held against the source that it describes.

mod links;
mod report;
mod rights;
mod schema;
mod source;
mod troubleshooting;
