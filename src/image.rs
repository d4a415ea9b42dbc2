//! Image references: parse, normalise, match.
//!
//! The grammar and its normal form are those of the Go package
//! `github.com/distribution/reference` (`ParseDockerRef`), which the kubelet and containerd use.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The domain of a reference that names none.
const DEFAULT_DOMAIN: &str = "docker.io";
/// What Docker called the same registry before.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// The path prefix of single-word names on the default domain.
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// `RepositoryNameTotalLengthMax` of the Go package.
const LONGEST_PATH: usize = 255;
/// A tag is one character of `[A-Za-z0-9_]` and up to 127 of `[A-Za-z0-9_.-]`.
const LONGEST_TAG: usize = 128;
/// The algorithms that `github.com/opencontainers/go-digest` knows, with the number of hex
/// digits of each.
const DIGESTS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// A valid image reference, as written and in its parts.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ImageRef {
    written: String,
    /// Domain and path, normalised: `docker.io/library/busybox`.
    name: String,
    tag: Option<String>,
    digest: Option<String>,
    domain: Domain,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Domain {
    Implied,
    Written,
}

/// When the kubelet asks the registry for an image.
///
/// Source: <https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy>
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl ImageRef {
    /// Parses a reference as `ParseNormalizedNamed` does. The error says what is wrong with it,
    /// without repeating it.
    pub fn parse(written: &str) -> Result<Self, &'static str> {
        if written.is_empty() {
            return Err("it is empty");
        }
        if written.len() == 64 && written.bytes().all(is_lower_hex) {
            return Err("64 hex digits are an image id, not a name");
        }
        let (domain, rest) = split_domain(written);
        let remote = rest.split(':').next().unwrap_or_default();
        if remote.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("the repository name must be lowercase");
        }
        let domain_form = match written.split_once('/') {
            Some((first, _)) if is_host(first) && is_domain(first) => Domain::Written,
            _ => Domain::Implied,
        };
        let rest = match domain == DEFAULT_DOMAIN && !rest.contains('/') {
            true => format!("{OFFICIAL_PREFIX}{rest}"),
            false => rest.to_owned(),
        };
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest.as_str(), None),
        };
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match rest[last..].find(':') {
            Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
            None => (rest, None),
        };
        check_name(domain, path)?;
        if tag.is_some_and(|it| !is_tag(it)) {
            return Err("the tag is not valid");
        }
        if digest.is_some_and(|it| !is_digest(it)) {
            return Err("the digest is not valid");
        }
        Ok(Self {
            written: written.into(),
            name: format!("{domain}/{path}"),
            tag: tag.map(Into::into),
            digest: digest.map(Into::into),
            domain: domain_form,
        })
    }

    /// The reference as its author wrote it.
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// The name under which a node lists the image: `name@digest` where a digest is given,
    /// whose tag runtimes drop, else `name:tag`.
    pub fn listed_name(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{}@{digest}", self.name),
            (None, tag) => format!("{}:{}", self.name, tag.as_deref().unwrap_or(DEFAULT_TAG)),
        }
    }

    /// The digest that the reference names, with its algorithm: `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The digest in another name of the same repository: what is held under several names has a
    /// digest in each, and they need not be the same.
    pub fn digest_in(&self, name: &str) -> Option<String> {
        let other = Self::parse(name).ok()?;
        other.digest.filter(|_| other.name == self.name)
    }

    /// The last component of the path, which people call the image by.
    pub fn last_component(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// Whether the reference says its registry. If not, CRI-O's `registries.conf` does, and the
    /// name a node lists may be another. To CRI-O a single label is none, even in uppercase.
    ///
    /// Source: `IsShortName` of the Go package `go.podman.io/image/v5/pkg/shortnames`.
    pub fn has_domain(&self) -> bool {
        self.domain == Domain::Written
    }

    /// The policy the API server gives a container without one: `Always` for the tag `latest`,
    /// written, even before a digest, or implied.
    ///
    /// Source: `SetDefaults_Container` in `pkg/apis/core/v1/defaults.go` and `ParseImageName` in
    /// `pkg/util/parsers`.
    pub fn default_pull_policy(&self) -> PullPolicy {
        match (self.tag.as_deref(), &self.digest) {
            (Some(DEFAULT_TAG), _) | (None, None) => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// Splits off the registry as `splitDockerDomain` does.
fn split_domain(written: &str) -> (&str, &str) {
    let Some((first, rest)) = written.split_once('/') else { return (DEFAULT_DOMAIN, written) };
    if first == LEGACY_DOMAIN {
        return (DEFAULT_DOMAIN, rest);
    }
    match is_host(first) || first.bytes().any(|b| b.is_ascii_uppercase()) {
        true => (first, rest),
        false => (DEFAULT_DOMAIN, written),
    }
}

/// Whether the first part of a name can be nothing but a host.
fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn check_name(domain: &str, path: &str) -> Result<(), &'static str> {
    if !path.split('/').all(is_path_component) {
        return Err("the repository name is not valid");
    }
    let length = match is_domain(domain) {
        true => path.len(),
        // The Go package's expression takes it into the path, as in `a_b.c/d`.
        false if is_path_component(domain) => domain.len() + 1 + path.len(),
        false => return Err("the registry is not a valid host name"),
    };
    match length <= LONGEST_PATH {
        true => Ok(()),
        false => Err("the repository name is longer than 255 characters"),
    }
}

/// `[a-z0-9]+` joined by one of `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(is_alphanumeric)
        && component.ends_with(is_alphanumeric)
        && component
            .split(is_alphanumeric)
            .all(|it| matches!(it, "" | "." | "_" | "__") || it.bytes().all(|b| b == b'-'))
}

/// A host name or an IPv6 address in brackets, and a port.
fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rfind(':') {
        Some(colon) if !domain.ends_with(']') => (&domain[..colon], Some(&domain[colon + 1..])),
        _ => (domain, None),
    };
    if port.is_some_and(|it| it.is_empty() || !it.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    host.split('.').all(|label| {
        let alphanumeric_or_dash = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(alphanumeric_or_dash)
    })
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=LONGEST_TAG).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    DIGESTS.contains(&(algorithm, hex.len())) && hex.bytes().all(is_lower_hex)
}

fn is_lower_hex(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_normalised_as_nodes_list_them() {
        let with_digest = |name: &str| format!("{name}@{DIGEST}");
        for (written, listed) in [
            ("busybox", "docker.io/library/busybox:latest".into()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".into()),
            ("x/y:t", "docker.io/x/y:t".into()),
            ("docker.io/x/y:t", "docker.io/x/y:t".into()),
            ("docker.io/ubuntu", "docker.io/library/ubuntu:latest".into()),
            ("index.docker.io/x/y", "docker.io/x/y:latest".into()),
            ("index.docker.io/ubuntu", "docker.io/library/ubuntu:latest".into()),
            ("foo:5000", "docker.io/library/foo:5000".into()),
            ("localhost/a", "localhost/a:latest".into()),
            ("localhost:5000/a:b", "localhost:5000/a:b".into()),
            ("Upper/a", "Upper/a:latest".into()),
            ("REG.example/a", "REG.example/a:latest".into()),
            ("[fd00::1]:5000/a", "[fd00::1]:5000/a:latest".into()),
            ("[::1]/a", "[::1]/a:latest".into()),
            ("quay.io/a/b/c_d__e.f---g:T.a_g-1", "quay.io/a/b/c_d__e.f---g:T.a_g-1".into()),
            (&with_digest("a"), with_digest("docker.io/library/a")),
            (&with_digest("quay.io/a:tag"), with_digest("quay.io/a")),
            ("a_b.c/d", "a_b.c/d:latest".into()),
        ] {
            let image = ImageRef::parse(written).unwrap_or_else(|err| panic!("{written}: {err}"));
            assert_eq!(image.listed_name(), listed, "{written}");
            assert_eq!(image.as_written(), written);
            let again = ImageRef::parse(&listed).unwrap();
            assert_eq!(again.listed_name(), listed, "not a fixed point: {written}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        let long_path = format!("a/{}", "b".repeat(254));
        let long_tag = format!("a:{}", "t".repeat(129));
        let hex = "a".repeat(64);
        for written in [
            "",
            " ",
            ":tag",
            "/a",
            "a/",
            "a//b",
            "A",
            "docker.io/A",
            "a b",
            "a:",
            "a:-t",
            "a:.t",
            "a:t:u",
            "a@",
            "a@sha256:1234",
            "a@md5:d41d8cd98f00b204e9800998ecf8427e",
            "a..b",
            "a._b",
            "-a",
            "a-",
            "a___b",
            "http://a/b",
            "a.b:port/c",
            "a.b:/c",
            "[::1/a",
            "-a.b/c",
            "a.b-/c",
            "ä",
            &long_path,
            &long_tag,
            &hex,
        ] {
            assert!(ImageRef::parse(written).is_err(), "`{written}` was accepted");
        }
        assert!(ImageRef::parse(&long_path[..257 - 1 - 1]).is_ok());
        assert!(ImageRef::parse(&long_tag[..2 + 128]).is_ok());
        // A first component that is no host counts.
        let long_path = format!("a_b.c/{}", "d".repeat(250));
        assert!(ImageRef::parse(&long_path).is_err());
        assert!(ImageRef::parse(&long_path[..255]).is_ok());
        let upper = format!("a@{}", DIGEST.to_ascii_uppercase());
        assert!(ImageRef::parse(&upper).is_err());
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        let hex = "a".repeat(64);
        let long_path = "a".repeat(256);
        for (written, part) in [
            ("", "empty"),
            (&hex, "image id"),
            ("Ab:1", "lowercase"),
            ("a..b", "repository name"),
            (&long_path, "255"),
            ("-a.b/c", "registry"),
            ("a:-", "tag"),
            ("a@sha256:1", "digest"),
        ] {
            let err = ImageRef::parse(written).unwrap_err();
            assert!(err.contains(part), "`{written}`: {err}");
        }
    }

    #[test]
    fn only_latest_is_always_pulled() {
        for (written, policy) in [
            ("a".to_owned(), PullPolicy::Always),
            ("a:latest".to_owned(), PullPolicy::Always),
            ("a:1".to_owned(), PullPolicy::IfNotPresent),
            (format!("a@{DIGEST}"), PullPolicy::IfNotPresent),
            (format!("a:latest@{DIGEST}"), PullPolicy::Always),
        ] {
            assert_eq!(
                ImageRef::parse(&written).unwrap().default_pull_policy(),
                policy,
                "{written}"
            );
        }
    }

    #[test]
    fn a_domain_is_written_or_implied() {
        for (written, has_domain) in [
            ("a", false),
            ("x/y", false),
            ("docker.io/a", true),
            ("index.docker.io/a", true),
            ("q.io/a", true),
            ("localhost/a", true),
            ("x:5000/a", true),
            ("Upper/a", false),
            ("a_b.c/d", false),
        ] {
            assert_eq!(ImageRef::parse(written).unwrap().has_domain(), has_domain, "{written}");
        }
    }
}
