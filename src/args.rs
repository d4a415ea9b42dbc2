//! The command line: raw arguments in, a checked configuration out.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use pico_args::Arguments;

use crate::image::{ImageRef, PullPolicy};
use crate::node::{Placement, with_defaults};
use crate::puller::OwnerReference;
use crate::report::{FailurePolicy, Judgement, Strictness, Unknown, Verbosity};
use crate::run::{Config, Mode};
use crate::settings::{ImageEntry, Settings};
use crate::survey::{Group, Wanted};

pub const HELP: &str = "\
prepull: make every eligible node hold container images

Usage:
  prepull [run] [OPTIONS] IMAGE...   make every eligible node hold the images, then exit
  prepull check [OPTIONS] IMAGE...   only look: exit 0 if all are present, 1 if not
  prepull install PATH               copy this binary to PATH
  prepull hold                       sleep until SIGTERM

Options of run and check:
  -f, --filename FILE          read images from FILE, one a line, # starts a comment; - is
                               standard input
      --settings JSON|FILE     structured settings: a JSON document, or a file with one
  -n, --namespace NAME         where the puller runs [default: the pod's own, else default]
      --name NAME              prefix of the DaemonSet's name, and what tells one release's
                               pullers from another's [default: prepull]
      --puller-image IMAGE     prepull's own image, for the puller's init container
      --timeout DURATION       give up after so long, from the start of the Job [default: 270s]
      --interval DURATION      pause between looks at the DaemonSet [default: 2s]
      --failure-policy POLICY  Fail, or Ignore: report a failure and exit 0 [default: Fail]
      --strict                 no eligible node is a failure
      --allow-unknown          check: unknown counts as present
      --dry-run                look, and say what would be pulled
      --output FORMAT          text or json [default: text]
      --server URL             the API server, or a kubectl proxy [default: the pod's own]
      --certificate-authority FILE, --token-file FILE
                               for --server https://...
  -v, --verbose                say more, name every node
  -h, --help                   print this help
  -V, --version                print the version

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 deadline, 143 stopped by a signal
";

/// Our own image where the command line names none: the name that `hack/image` gives it.
const OWN_IMAGE: &str = concat!("prepull:", env!("CARGO_PKG_VERSION"));
const DEFAULT_NAME: &str = "prepull";
/// Leaves room for the rest of a DaemonSet's name and of its pods' names within 63 characters.
const LONGEST_NAME: usize = 40;
/// Below helm's own default of 300 s.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(270);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What the process is asked to do.
#[derive(Debug)]
pub enum Command {
    Help,
    Hold,
    Install(PathBuf),
    Run(Box<RunArgs>),
    Version,
}

/// What `run` and `check` are asked to do.
#[derive(Debug)]
pub struct RunArgs {
    pub config: Config,
    /// Where `config.namespace` came from: without `--namespace` the pod's own takes its place.
    pub namespace: Option<String>,
    pub judgement: Judgement,
    pub output: Output,
    pub verbosity: Verbosity,
    pub server: Server,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    Json,
    Text,
}

/// Where the API server is.
#[derive(Clone, Debug, PartialEq)]
pub enum Server {
    At { url: String, certificate_authority: Option<PathBuf>, token_file: Option<PathBuf> },
    InCluster,
}

/// What is wrong with the command line, in one line.
#[derive(Debug, PartialEq)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses the arguments after the program's name. `env` looks up environment variables, through
/// which the downward API tells who owns the run.
pub fn parse(
    args: Vec<OsString>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Command, UsageError> {
    let mut args = Arguments::from_vec(args);
    if args.contains(["-h", "--help"]) {
        return Ok(Command::Help);
    }
    if args.contains(["-V", "--version"]) {
        return Ok(Command::Version);
    }
    // pico-args finds a subcommand only where it stands first, so that an image of the same name
    // is taken for an image.
    match args.subcommand().map_err(broken)?.as_deref() {
        None | Some("run") => run_args(args, Mode::Run, vec![], env),
        Some("check") => run_args(args, Mode::Check, vec![], env),
        Some("hold") => no_more(args, Command::Hold),
        Some("install") => {
            let path = args.free_from_os_str(|it| Ok::<_, String>(PathBuf::from(it)));
            let path = path.map_err(|_| UsageError("`install` needs a path to copy to".into()))?;
            no_more(args, Command::Install(path))
        }
        Some(image) => run_args(args, Mode::Run, vec![image.to_owned()], env),
    }
}

fn run_args(
    mut args: Arguments,
    mode: Mode,
    mut images: Vec<String>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Command, UsageError> {
    let settings = match value(&mut args, "--settings")? {
        Some(it) => read_settings(&it)?,
        None => Settings::default(),
    };
    let filename = args.opt_value_from_str::<_, String>(["-f", "--filename"]).map_err(broken)?;
    let namespace = args.opt_value_from_str::<_, String>(["-n", "--namespace"]).map_err(broken)?;
    let name = value(&mut args, "--name")?.unwrap_or_else(|| DEFAULT_NAME.into());
    let own_image = value(&mut args, "--puller-image")?.unwrap_or_else(|| OWN_IMAGE.into());
    let timeout = duration(&mut args, "--timeout")?.unwrap_or(DEFAULT_TIMEOUT);
    let interval = duration(&mut args, "--interval")?.unwrap_or(DEFAULT_INTERVAL);
    let failure_policy = choice(
        &mut args,
        "--failure-policy",
        &[("Fail", FailurePolicy::Fail), ("Ignore", FailurePolicy::Ignore)],
    )?;
    let output = choice(&mut args, "--output", &[("text", Output::Text), ("json", Output::Json)])?;
    let url = value(&mut args, "--server")?;
    let certificate_authority = value(&mut args, "--certificate-authority")?.map(PathBuf::from);
    let token_file = value(&mut args, "--token-file")?.map(PathBuf::from);
    let strictness = match args.contains("--strict") {
        true => Strictness::Strict,
        false => Strictness::Lenient,
    };
    let unknown = match args.contains("--allow-unknown") {
        true => Unknown::Allowed,
        false => Unknown::Missing,
    };
    let mode = match args.contains("--dry-run") {
        true if mode == Mode::Run => Mode::DryRun,
        _ => mode,
    };
    let verbosity = match args.contains(["-v", "--verbose"]) {
        true => Verbosity::Verbose,
        false => Verbosity::Normal,
    };
    for rest in args.finish() {
        let rest = rest.to_string_lossy().into_owned();
        if rest.starts_with('-') {
            let flag = rest.split('=').next().unwrap_or_default();
            return usage(format!(
                "unknown option `{flag}`, or one given twice: see `prepull --help`"
            ));
        }
        images.push(rest);
    }

    let server = match url {
        Some(url) => Server::At { url, certificate_authority, token_file },
        None if certificate_authority.is_some() || token_file.is_some() => {
            return usage(
                "`--certificate-authority` and `--token-file` need `--server`: name the API \
                 server"
                    .into(),
            );
        }
        None => Server::InCluster,
    };
    check_name(&name, "--name", LONGEST_NAME)?;
    if let Some(ns) = &namespace {
        check_name(ns, "--namespace", 63)?;
    }
    if let Err(cause) = ImageRef::parse(&own_image) {
        return usage(format!("`--puller-image` `{own_image}` is no image reference: {cause}"));
    }
    if interval < SHORTEST_INTERVAL {
        return usage("`--interval` is too short: use 100ms or more".into());
    }
    if timeout.is_zero() {
        return usage("`--timeout` is zero: give the run some time, such as 270s".into());
    }
    if let Some(file) = filename {
        images.extend(read_images(&file)?);
    }
    let (wanted, groups) = wanted(images, &settings)?;
    if wanted.is_empty() {
        return usage("no images: name at least one, or use `--filename` or `--settings`".into());
    }
    let owner = owner(env);
    let id = match &owner {
        Some(owner) => owner.uid.clone(),
        None => random_word(),
    };
    let config = Config {
        mode,
        wanted,
        groups,
        name,
        namespace: namespace.clone().unwrap_or_else(|| "default".into()),
        own_image,
        timeout,
        interval,
        puller: settings.puller,
        id,
        owner,
    };
    let judgement = Judgement {
        failure_policy: failure_policy.unwrap_or(FailurePolicy::Fail),
        strictness,
        unknown,
    };
    let output = output.unwrap_or(Output::Text);
    Ok(Command::Run(Box::new(RunArgs { config, namespace, judgement, output, verbosity, server })))
}

/// The images in the order they are named, and the groups they fall into. An image that is named
/// twice in the same way is pulled once.
fn wanted(
    images: Vec<String>,
    settings: &Settings,
) -> Result<(Vec<Wanted>, Vec<Group>), UsageError> {
    let plain = images.into_iter().map(|image| ImageEntry { image, settings: Default::default() });
    let mut wanted: Vec<Wanted> = vec![];
    let mut groups: Vec<Group> = vec![];
    let entries: Vec<_> = plain.collect();
    for entry in entries.iter().chain(&settings.images) {
        let written = entry.image.trim();
        let image = ImageRef::parse(written).map_err(|cause| {
            UsageError(format!(
                "`{written}` is no image reference: {cause}: write it like registry.example/app:1"
            ))
        })?;
        let pull_policy = match entry.settings.pull_policy.as_str() {
            "" => image.default_pull_policy(),
            "Always" => PullPolicy::Always,
            "IfNotPresent" => PullPolicy::IfNotPresent,
            "Never" => PullPolicy::Never,
            other => {
                return usage(format!(
                    "pull policy `{other}` of image `{written}` is none: use Always, \
                     IfNotPresent or Never"
                ));
            }
        };
        let it = Wanted { image, pull_policy };
        let placement = placement(entry, settings);
        let group = match groups.iter().position(|it| it.placement == placement) {
            Some(group) => group,
            None => {
                groups.push(Group { placement, images: vec![] });
                groups.len() - 1
            }
        };
        let is_known = groups[group].images.iter().any(|&place| wanted[place] == it);
        if !is_known {
            groups[group].images.push(wanted.len());
            wanted.push(it);
        }
    }
    Ok((wanted, groups))
}

fn placement(entry: &ImageEntry, settings: &Settings) -> Placement {
    let own = &entry.settings;
    let puller = &settings.puller;
    let node_selector = match own.node_selector.is_empty() {
        true => puller.node_selector.clone(),
        false => own.node_selector.clone(),
    };
    let affinity = own.affinity.node_affinity.as_ref().or(puller.affinity.node_affinity.as_ref());
    with_defaults(Placement {
        node_selector,
        affinity: affinity.cloned(),
        tolerations: own.tolerations.as_ref().unwrap_or(&puller.tolerations).clone(),
        control_plane: settings.control_plane,
    })
}

/// The hook's Job, as the downward API tells it, or else the bare pod.
fn owner(env: &dyn Fn(&str) -> Option<String>) -> Option<OwnerReference> {
    let var = |name| env(name).filter(|it| !it.is_empty());
    let reference = |api_version: &str, kind: &str, name, uid| OwnerReference {
        api_version: api_version.into(),
        kind: kind.into(),
        name,
        uid,
    };
    if let (Some(name), Some(uid)) = (var("PREPULL_JOB_NAME"), var("PREPULL_JOB_UID")) {
        return Some(reference("batch/v1", "Job", name, uid));
    }
    let (name, uid) = (var("PREPULL_POD_NAME")?, var("PREPULL_POD_UID")?);
    Some(reference("v1", "Pod", name, uid))
}

/// A word that no other run has, for a run that nothing owns.
fn random_word() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

fn read_settings(argument: &str) -> Result<Settings, UsageError> {
    if argument.trim_start().starts_with('{') {
        return Settings::parse(argument)
            .map_err(|cause| UsageError(format!("`--settings` is not valid: {cause}")));
    }
    let document = read(argument, "--settings")?;
    Settings::parse(&document)
        .map_err(|cause| UsageError(format!("`--settings` `{argument}` is not valid: {cause}")))
}

fn read_images(file: &str) -> Result<Vec<String>, UsageError> {
    let text = read(file, "--filename")?;
    let lines = text.lines().map(|it| it.split(" #").next().unwrap_or_default().trim());
    Ok(lines.filter(|it| !it.is_empty() && !it.starts_with('#')).map(Into::into).collect())
}

fn read(file: &str, option: &str) -> Result<String, UsageError> {
    let text = match file {
        "-" => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        }
        file => std::fs::read_to_string(file),
    };
    text.map_err(|err| UsageError(format!("cannot read `{option}` `{file}`: {err}")))
}

fn value(args: &mut Arguments, name: &'static str) -> Result<Option<String>, UsageError> {
    args.opt_value_from_str(name).map_err(broken)
}

fn duration(args: &mut Arguments, name: &'static str) -> Result<Option<Duration>, UsageError> {
    let Some(text) = value(args, name)? else { return Ok(None) };
    let duration = humantime::parse_duration(&text).map_err(|err| {
        UsageError(format!(
            "`{name}` `{text}` is no duration: {err}: write it like 270s, 5m or 1h30m"
        ))
    })?;
    Ok(Some(duration))
}

fn choice<T: Copy>(
    args: &mut Arguments,
    name: &'static str,
    choices: &[(&str, T)],
) -> Result<Option<T>, UsageError> {
    let Some(text) = value(args, name)? else { return Ok(None) };
    match choices.iter().find(|(word, _)| *word == text) {
        Some((_, it)) => Ok(Some(*it)),
        None => {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            usage(format!("`{name}` `{text}` is unknown: use {}", words.join(" or ")))
        }
    }
}

/// A DNS label, RFC 1123, of at most this length.
fn check_name(name: &str, option: &str, longest: usize) -> Result<(), UsageError> {
    let is_valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=longest).contains(&name.len())
        && name.bytes().all(is_valid)
        && !name.starts_with('-')
        && !name.ends_with('-')
    {
        return Ok(());
    }
    usage(format!(
        "`{option}` `{name}` is no valid name: use at most {longest} lowercase letters, digits \
         and dashes"
    ))
}

fn no_more(args: Arguments, command: Command) -> Result<Command, UsageError> {
    match args.finish().first() {
        Some(rest) => usage(format!("unknown argument `{}`", rest.to_string_lossy())),
        None => Ok(command),
    }
}

fn broken(err: pico_args::Error) -> UsageError {
    match err {
        pico_args::Error::OptionWithoutAValue(name) => {
            UsageError(format!("option `{name}` needs a value"))
        }
        err => UsageError(err.to_string()),
    }
}

fn usage<T>(message: String) -> Result<T, UsageError> {
    Err(UsageError(message))
}
