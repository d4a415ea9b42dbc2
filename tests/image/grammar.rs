//! Names from the grammar of references, and faults that take them out of it.
//!
//! Source: `regexp.go` of `github.com/distribution/reference`.

use std::fmt;

use crate::chance::Chance;

/// `RepositoryNameTotalLengthMax`.
const LONGEST_PATH: usize = 255;
const LONGEST_TAG: usize = 128;

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &str = "0123456789abcdef";
const WORD: &str = "abcxyzABCXYZ0189_";

/// A name in its parts, which need not be valid ones.
pub struct Name {
    domain: Option<String>,
    components: Vec<String>,
    tag: Option<String>,
    digest: Option<String>,
}

/// A production of the grammar, or another choice that it leaves: what it is called, and how a
/// part is made by it.
pub type Production<T> = (&'static str, fn(&mut Chance) -> T);

/// A fault: what it is called, and how it is put into a valid name.
pub type Fault = (&'static str, fn(Name, &mut Chance) -> String);

pub const DOMAINS: [Production<Option<String>>; 15] = [
    ("no domain", |_| None),
    ("docker.io", |_| Some("docker.io".into())),
    ("index.docker.io", |_| Some("index.docker.io".into())),
    ("localhost", |_| Some("localhost".into())),
    ("localhost with a port", |chance| Some(format!("localhost:{}", port(chance)))),
    ("host of one label with a port", |chance| Some(format!("{}:{}", label(chance), port(chance)))),
    ("host with dots", |chance| Some(dotted(chance))),
    ("host with dots and a port", |chance| Some(format!("{}:{}", dotted(chance), port(chance)))),
    ("host in uppercase with dots", |chance| Some(dotted(chance).to_uppercase() + ".Org")),
    ("host in uppercase of one label", |chance| Some(format!("{}Z", label(chance)))),
    ("IPv4 address", |chance| Some(format!("10.{}.0.1", chance.below(256)))),
    ("IPv6 address", |chance| Some(ipv6(chance))),
    ("IPv6 address with a port", |chance| Some(format!("{}:{}", ipv6(chance), port(chance)))),
    // Only capital letters make a bracket without a colon a domain.
    ("address without a colon", |chance| Some(format!("[{}]", chance.text("ABCDEF", 3)))),
    // The grammar takes what is no host, but would be a component, into the path.
    ("component with a dot in place of a domain", |chance| {
        let (start, end) = (word(chance), word(chance));
        Some(format!("{start}_{end}.{start}"))
    }),
];

/// How components are joined into a path.
pub const PATHS: [Production<Vec<String>>; 5] = [
    ("path of one component", |chance| vec![component(chance)]),
    ("path of two components", |chance| vec![component(chance), component(chance)]),
    ("path of many components", |chance| {
        (0..3 + chance.below(4)).map(|_| component(chance)).collect()
    }),
    ("path below library", |chance| vec!["library".into(), component(chance)]),
    // Alone it is the id of an image; `Name::new` sees to it that it is not.
    ("component of 64 hex digits", |chance| vec![chance.text(HEX, 64)]),
];

pub const SEPARATORS: [&str; 5] = [".", "_", "__", "-", "---"];

pub const TAGS: [Production<Option<String>>; 7] = [
    ("no tag", |_| None),
    ("tag latest", |_| Some("latest".into())),
    ("tag of digits", |chance| Some(port(chance))),
    ("tag with dots and dashes", |chance| Some(format!("{}.-.{}-", word(chance), port(chance)))),
    ("tag in uppercase", |chance| Some(word(chance).to_uppercase() + "Z")),
    ("tag that starts with an underscore", |chance| Some(format!("_{}", word(chance)))),
    ("longest tag", |chance| Some(chance.text(WORD, LONGEST_TAG))),
];

pub const DIGESTS: [Production<Option<String>>; 4] = [
    ("no digest", |_| None),
    ("sha256", |chance| Some(digest("sha256", 64, chance))),
    ("sha384", |chance| Some(digest("sha384", 96, chance))),
    ("sha512", |chance| Some(digest("sha512", 128, chance))),
];

const TAG_AND_DIGEST: &str = "tag and digest";
const LONGEST: &str = "longest path";

/// The names of all productions.
pub fn productions() -> impl Iterator<Item = &'static str> {
    let optional = DOMAINS.iter().chain(&TAGS).chain(&DIGESTS).map(|it| it.0);
    let rest = SEPARATORS.into_iter().chain([TAG_AND_DIGEST, LONGEST]);
    optional.chain(PATHS.iter().map(|it| it.0)).chain(rest)
}

pub const FAULTS: [Fault; 57] = [
    ("empty name", |_, _| String::new()),
    ("blank in front", |name, _| format!(" {name}")),
    ("blank behind", |name, _| format!("{name} ")),
    ("newline behind", |name, _| format!("{name}\n")),
    ("NUL behind", |name, _| format!("{name}\0")),
    ("colon behind", |name, _| format!("{name}:")),
    ("at sign behind", |name, _| format!("{name}@")),
    ("slash behind", |name, _| format!("{name}/")),
    ("slash in front", |name, _| format!("/{name}")),
    ("scheme", |name, _| format!("https://{name}")),
    ("user", |name, _| format!("user@{name}")),
    ("id of an image", |_, chance| chance.text(HEX, 64)),
    // Domains.
    ("domain without a path", |name, _| name.without_path()),
    ("port without digits", |name, chance| name.host(&format!("{}:", label(chance)))),
    ("port with a letter", |name, chance| name.host(&format!("{}:5000a", label(chance)))),
    ("two ports", |name, chance| name.host(&format!("{}:1:2", label(chance)))),
    ("label that starts with a dash", |name, _| name.host("-a.b")),
    ("label that ends with a dash", |name, _| name.host("a-.b")),
    ("label with an underscore and a port", |name, _| name.host("a_b.c:5000")),
    ("label with an underscore, in uppercase", |name, _| name.host("A_b")),
    ("two dots in a host", |name, _| name.host("a..b")),
    ("dot behind a host", |name, _| name.host("a.b.")),
    ("dot in front of a host", |name, _| name.host(".a.b")),
    ("letter of another script in a host", |name, _| name.host("é.fr")),
    ("address without brackets", |name, _| name.host("::1")),
    ("bracket that is not closed", |name, _| name.host("[::1")),
    ("bracket that is not opened", |name, _| name.host("::1]")),
    ("empty brackets", |name, _| name.host("[]:5000")),
    ("brackets around a name", |name, _| name.host("[a.example]")),
    ("address with a zone", |name, _| name.host("[fe80::1%eth0]")),
    ("address with an IPv4 address in it", |name, _| name.host("[::ffff:10.0.0.1]")),
    ("port without a colon", |name, _| name.host("[::1]5000")),
    // Paths.
    ("empty component", |name, _| name.with_last(|last| format!("/{last}"))),
    ("component in uppercase", |name, _| name.with_last(|last| format!("{last}A"))),
    ("separator in front of a component", |name, chance| {
        let separator = chance.pick(&SEPARATORS);
        name.with_last(|last| format!("{separator}{last}"))
    }),
    ("separator behind a component", |name, chance| {
        let separator = chance.pick(&SEPARATORS);
        name.with_last(|last| format!("{last}{separator}"))
    }),
    ("two dots in a component", |name, _| name.with_last(|last| format!("{last}..a"))),
    ("three underscores", |name, _| name.with_last(|last| format!("{last}___a"))),
    ("mixed separators", |name, chance| {
        let mixed = chance.pick(&["._", "_.", "-_", "_-", ".-", "-.", "__-", "__."]);
        name.with_last(|last| format!("{last}{mixed}a"))
    }),
    ("letter of another script", |name, _| name.with_last(|last| format!("{last}é"))),
    ("blank in a component", |name, _| name.with_last(|last| format!("{last} a"))),
    ("plus in a component", |name, _| name.with_last(|last| format!("{last}+a"))),
    ("path that is too long", |mut name, chance| {
        name.lengthen_to(LONGEST_PATH + 1 + chance.size_below(3), chance);
        name.to_string()
    }),
    // Tags.
    ("empty tag", |name, _| name.tag("")),
    ("tag that starts with a dot", |name, _| name.tag(".a")),
    ("tag that starts with a dash", |name, _| name.tag("-a")),
    ("tag with a plus", |name, _| name.tag("1.0+a")),
    ("two tags", |name, _| name.tag("a:b")),
    ("tag that is too long", |name, chance| {
        let length = LONGEST_TAG + 1 + chance.size_below(3);
        let tag = chance.text(WORD, length);
        name.tag(&tag)
    }),
    // Digests.
    ("digest without an algorithm", |name, chance| name.digest(&chance.text(HEX, 64))),
    ("digest without hex digits", |name, _| name.digest("sha256:")),
    ("digest of an algorithm that no program knows", |name, chance| {
        let (algorithm, length) = chance.pick(&[
            ("md5", 32),
            ("sha1", 40),
            ("sha224", 56),
            ("blake3", 64),
            ("sha512256", 64),
            ("sha256+b64", 64),
        ]);
        name.digest(&digest(algorithm, length, chance))
    }),
    ("digest of the length of another algorithm", |name, chance| {
        let (algorithm, length) = chance.pick(&[
            ("sha256", 32),
            ("sha256", 63),
            ("sha256", 65),
            ("sha256", 96),
            ("sha384", 64),
            ("sha384", 128),
            ("sha512", 64),
            ("sha512", 129),
        ]);
        name.digest(&digest(algorithm, length, chance))
    }),
    ("digest in uppercase", |name, chance| {
        name.digest(&format!("sha256:A{}", chance.text(HEX, 63)))
    }),
    ("algorithm in uppercase", |name, chance| name.digest(&digest("SHA256", 64, chance))),
    ("digest with a letter that is no hex digit", |name, chance| {
        name.digest(&format!("sha256:g{}", chance.text(HEX, 63)))
    }),
    ("tag behind the digest", |mut name, chance| {
        let tag = name.tag.take().unwrap_or_else(|| word(chance));
        let digest = digest("sha256", 64, chance);
        name.digest(&format!("{digest}:{tag}"))
    }),
];

/// A production, and what it made of the name.
pub type Piece = (&'static str, String);

impl Name {
    /// A valid name, and the pieces that it is made of.
    pub fn new(chance: &mut Chance) -> (Self, Vec<Piece>) {
        let (by_domain, domain) = choose(&DOMAINS, chance);
        let (by_path, components) = choose(&PATHS, chance);
        let (by_tag, tag) = choose(&TAGS, chance);
        // The longer a name is, the more rarely damage leaves it valid.
        let (by_digest, digest) = match chance.percent(50) {
            true => choose(&DIGESTS[..1], chance),
            false => choose(&DIGESTS[1..], chance),
        };
        let mut name = Self { domain, components, tag, digest };
        if name.domain.is_none() {
            if name.is_identifier() {
                name.components.push(component(chance));
            }
            // With a dot it would be a domain.
            name.components[0] = name.components[0].replace('.', "-");
        }
        let mut pieces = vec![];
        if chance.percent(10) {
            name.lengthen_to(LONGEST_PATH, chance);
            pieces.push((LONGEST, name.components.join("/")));
        }
        let written = |part: &Option<String>| part.clone().unwrap_or_default();
        if let (Some(tag), Some(digest)) = (&name.tag, &name.digest) {
            pieces.push((TAG_AND_DIGEST, format!(":{tag}@{digest}")));
        }
        let separators = SEPARATORS.into_iter().filter(|it| name.is_joined_by(it));
        pieces.extend(separators.map(|it| (it, it.to_owned())));
        pieces.push((by_domain, written(&name.domain)));
        pieces.push((by_path, name.components.join("/")));
        pieces.push((by_tag, written(&name.tag)));
        pieces.push((by_digest, written(&name.digest)));
        (name, pieces)
    }

    fn is_identifier(&self) -> bool {
        self.components.len() == 1 && self.components[0].len() == 64
    }

    /// Whether a component has this separator, and not one that it is a part of.
    fn is_joined_by(&self, separator: &str) -> bool {
        let between = |c: char| c.is_ascii_alphanumeric();
        self.components.iter().any(|it| it.split(between).any(|part| part == separator))
    }

    /// Makes the path, as it is normalised, exactly so long by longer words in its last component.
    fn lengthen_to(&mut self, length: usize, chance: &mut Chance) {
        let is_hub = matches!(self.domain.as_deref(), None | Some("docker.io" | "index.docker.io"));
        let mut now = self.components.iter().map(|it| it.len() + 1).sum::<usize>() - 1;
        if is_hub && self.components.len() == 1 {
            now += "library/".len();
        }
        if let Some(domain) = self.domain.as_deref().filter(|it| it.contains('_')) {
            now += domain.len() + 1;
        }
        let last = self.components.last_mut().expect("a path has a component");
        *last += &chance.text(LOWER, length.saturating_sub(now));
    }

    fn host(mut self, domain: &str) -> String {
        self.domain = Some(domain.into());
        self.to_string()
    }

    fn without_path(mut self) -> String {
        self.domain.get_or_insert_with(|| "docker.io".into());
        self.components.clear();
        self.to_string()
    }

    fn tag(mut self, tag: &str) -> String {
        self.tag = Some(tag.into());
        self.to_string()
    }

    fn digest(mut self, digest: &str) -> String {
        self.digest = Some(digest.into());
        self.to_string()
    }

    fn with_last(mut self, change: impl Fn(&str) -> String) -> String {
        let last = self.components.last_mut().expect("a path has a component");
        *last = change(last);
        self.to_string()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(domain) = &self.domain {
            write!(f, "{domain}/")?;
        }
        f.write_str(&self.components.join("/"))?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn choose<T>(productions: &[Production<T>], chance: &mut Chance) -> (&'static str, T) {
    let (name, make) = chance.pick(productions);
    (name, make(chance))
}

fn word(chance: &mut Chance) -> String {
    let length = 1 + chance.size_below(5);
    chance.text(LOWER, length)
}

fn component(chance: &mut Chance) -> String {
    let mut component = word(chance);
    while chance.percent(50) {
        component += chance.pick(&SEPARATORS);
        component += &word(chance);
    }
    component
}

fn label(chance: &mut Chance) -> String {
    match chance.percent(50) {
        true => word(chance),
        false => format!("{}--{}", word(chance), word(chance)),
    }
}

fn dotted(chance: &mut Chance) -> String {
    (0..2 + chance.below(3)).map(|_| label(chance)).collect::<Vec<_>>().join(".")
}

fn ipv6(chance: &mut Chance) -> String {
    format!("[{}:{}]", chance.text("0123456789abcdefABCDEF", 4), chance.text(":::0123af", 6))
}

fn port(chance: &mut Chance) -> String {
    let length = 1 + chance.size_below(5);
    chance.text("0123456789", length)
}

fn digest(algorithm: &str, length: usize, chance: &mut Chance) -> String {
    format!("{algorithm}:{}", chance.text(HEX, length))
}
