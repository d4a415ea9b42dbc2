//! The service account token, which changes while a run goes on.

use crate::words::plain;
use std::fs;
use std::path::{Path, PathBuf};

use ureq::http::HeaderValue;

/// A token and the file it comes from. There is no `Debug`: what is held must never be printed.
pub(super) struct Token {
    path: PathBuf,
    last: String,
}

impl Token {
    /// Reads the token for the first time, so that a missing one is found before anything was
    /// created.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        Ok(Self { path: path.into(), last: read(path)? })
    }

    /// The token as it is now. The kubelet replaces it while a pod runs, and reading a small
    /// file every two seconds costs nothing; if that fails, the token before may still do
    /// (kubernetes/kubernetes#68164).
    pub(super) fn renew(&mut self) -> &str {
        if let Ok(token) = read(&self.path) {
            self.last = token;
        }
        &self.last
    }

    /// The token that the last request was sent with.
    pub(super) fn last(&self) -> &str {
        &self.last
    }
}

fn read(path: &Path) -> Result<String, String> {
    let advice = "check that the pod mounts its service account token";
    let text = fs::read_to_string(path).map_err(|error| {
        format!("cannot read token file `{}`: {}; {advice}", path.display(), plain(&error))
    })?;
    let token = text.trim();
    if token.is_empty() {
        return Err(format!("token file `{}` is empty; {advice}", path.display()));
    }
    // A token is base64url with dots; what cannot stand in a header is not one.
    if !token.bytes().all(|it| it.is_ascii_graphic()) || HeaderValue::from_str(token).is_err() {
        return Err(format!("token file `{}` holds something else; {advice}", path.display()));
    }
    Ok(token.into())
}
