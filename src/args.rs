//! The command line: raw arguments in, a checked configuration out.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fmt::{self, Write};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use pico_args::Arguments;

use crate::image::{ImageRef, PullPolicy};
use crate::node::{self, Placement, with_defaults};
use crate::puller::OwnerReference;
use crate::report::{FailurePolicy, Judgement, Strictness, Unknown, Verbosity};
use crate::run::{Config, Mode};
use crate::settings::{ImageEntry, Settings};
use crate::share::Share;
use crate::survey::{Group, Wanted};
use crate::words::plain;

/// What `--help` prints, which README shows too.
pub const HELP: &str = concat!(
    "\
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
      --puller-image IMAGE     prepull's own image, for the puller's init container: the nodes
                               have to be able to pull it [default: prepull:",
    env!("CARGO_PKG_VERSION"),
    "]
      --timeout DURATION       give up after so long, from the start of the Job [default: 270s],
                               check after 30s
      --interval DURATION      pause between looks at the DaemonSet [default: 2s]
      --max-nodes-at-once N    so many nodes, or N%, may be unfinished at a time [default: all]
      --allow-missing N        so many nodes, or N%, may end up without an image [default: 0]
      --stall-timeout DURATION make a pod anew that got no further for so long while others did;
                               needs the right to delete pods [default: off]
      --pods-per-node N        pull with so many pods on each node, for kubelets that pull in
                               parallel [default: 1]
      --failure-policy POLICY  Fail, or Ignore: report a failure and exit 0 [default: Fail]
      --strict                 no eligible node, for all or for one image, or a node without
                               room for another pod is a failure
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
"
);

const COMMANDS: [&str; 4] = ["check", "hold", "install", "run"];

/// Our own image where the command line names none: what the chart asks for by default.
const OWN_IMAGE: &str = concat!("prepull:", env!("CARGO_PKG_VERSION"));
const DEFAULT_NAME: &str = "prepull";
/// Leaves room for the rest of a DaemonSet's name and of its pods' names within 63 characters.
const LONGEST_NAME: usize = 40;
/// The end of a run is a date, and its year has four digits; no pull takes a year.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Nobody waits longer for news of pulls.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
/// Below helm's own default of 300 s.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(270);
/// A look is done in a second or two, and somebody waits for it at a terminal.
const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// The first back-off of the kubelet; before it nothing can be said to stall.
const SHORTEST_STALL: Duration = Duration::from_secs(10);
/// More pods would only wait for one another: kubelets that pull in parallel do so with a handful
/// of images (`maxParallelImagePulls`), and every pod takes one of the node's 110 places.
const MOST_PODS_PER_NODE: usize = 10;

/// What the process is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Print [`HELP`].
    Help,
    /// Sleep until the pod is deleted: what runs in a container of a puller.
    Hold,
    /// Copy this binary to the path, from where the containers of a puller run it.
    Install(PathBuf),
    /// `run` and `check`.
    Run(Box<RunArgs>),
    /// Print the version.
    Version,
}

/// What `run` and `check` are asked to do.
#[derive(Debug)]
pub struct RunArgs {
    /// What the run is to do; its namespace may not be the one that counts, see `namespace`.
    pub config: Config,
    /// Where `config.namespace` came from: without `--namespace` the pod's own takes its place.
    pub namespace: Option<String>,
    /// What is made of the outcome in the end.
    pub judgement: Judgement,
    /// How the report is written.
    pub output: Output,
    /// How much of the log is shown.
    pub verbosity: Verbosity,
    /// Whom the run asks.
    pub server: Server,
}

/// How the report is written, by `--output`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    /// One JSON document on standard output, and the log on standard error.
    Json,
    /// Lines that follow the log on standard output.
    Text,
}

/// Where the API server is.
#[derive(Clone, Debug, PartialEq)]
pub enum Server {
    /// At this URL, with this CA for `https` and the token in this file, if any.
    At { url: String, certificate_authority: Option<PathBuf>, token_file: Option<PathBuf> },
    /// Where a pod finds it: by the environment and the files of its ServiceAccount.
    InCluster,
}

/// What is wrong with the command line, in one line.
#[derive(Debug, PartialEq)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments are people's: a control character in one is shown as what it is.
        for c in self.0.chars() {
            match c.is_control() {
                true => c.escape_default().fmt(f)?,
                false => f.write_char(c)?,
            }
        }
        Ok(())
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
    let timeout = duration(&mut args, "--timeout")?.unwrap_or(match mode {
        Mode::Check => DEFAULT_CHECK_TIMEOUT,
        _ => DEFAULT_TIMEOUT,
    });
    let interval = duration(&mut args, "--interval")?.unwrap_or(DEFAULT_INTERVAL);
    let max_nodes_at_once = share(&mut args, "--max-nodes-at-once")?;
    if max_nodes_at_once.is_some_and(|it| it.of(usize::MAX) == 0) {
        return usage(
            "`--max-nodes-at-once` lets no node in: use 1 or more, or leave it out".into(),
        );
    }
    let allow_missing = share(&mut args, "--allow-missing")?.unwrap_or(Share::Nodes(0));
    let stall_timeout = duration(&mut args, "--stall-timeout")?;
    let pods_per_node = pods_per_node(&mut args)?;
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
        if COMMANDS.contains(&rest.as_str()) {
            return usage(format!("put the command `{rest}` first, before options and images"));
        }
        if rest.starts_with('-') {
            let (flag, value) = rest.split_once('=').unwrap_or((&rest, ""));
            if matches!(value, "true" | "false") {
                return usage(format!("option `{flag}` takes no value: give it or leave it out"));
            }
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
    if interval > LONGEST_INTERVAL {
        return usage("`--interval` is longer than an hour: use less, such as 2s".into());
    }
    if timeout > LONGEST_TIMEOUT {
        return usage("`--timeout` is longer than a year: use less, such as 270s".into());
    }
    if stall_timeout.is_some_and(|it| it < SHORTEST_STALL) {
        return usage("`--stall-timeout` is too short: use 10s or more".into());
    }
    if timeout.is_zero() {
        return usage("`--timeout` is zero: give the run some time, such as 270s".into());
    }
    if let Some(file) = filename {
        images.extend(read_images(&file)?);
    }
    let (wanted, groups) = wanted(images, &settings)?;
    let groups = dealt(groups, pods_per_node);
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
        max_nodes_at_once,
        allow_missing,
        stall_timeout,
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
        node::check(&placement)
            .map_err(|cause| UsageError(format!("`--settings` is not valid: {cause}")))?;
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

/// Deals the images of each group over so many groups, as far as there are images. The kubelet
/// pulls the images of one pod one after the other, and those of several at once where it may.
fn dealt(groups: Vec<Group>, pods_per_node: usize) -> Vec<Group> {
    let hands = groups.into_iter().flat_map(|group| {
        let n_hands = pods_per_node.min(group.images.len());
        (0..n_hands).map(move |hand| Group {
            placement: group.placement.clone(),
            images: group.images.iter().copied().skip(hand).step_by(n_hands).collect(),
        })
    });
    hands.collect()
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
    text.map_err(|err| UsageError(format!("cannot read `{option}` `{file}`: {}", plain(&err))))
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

fn share(args: &mut Arguments, name: &'static str) -> Result<Option<Share>, UsageError> {
    let Some(text) = value(args, name)? else { return Ok(None) };
    match Share::parse(&text) {
        Ok(share) => Ok(Some(share)),
        Err(cause) => usage(format!("`{name}` `{text}` is no number of nodes: {cause}")),
    }
}

fn pods_per_node(args: &mut Arguments) -> Result<usize, UsageError> {
    let name = "--pods-per-node";
    let Some(text) = value(args, name)? else { return Ok(1) };
    match text.parse() {
        Ok(n) if (1..=MOST_PODS_PER_NODE).contains(&n) => Ok(n),
        _ => usage(format!(
            "`{name}` `{text}` is no number of pods: use a number from 1 to {MOST_PODS_PER_NODE}"
        )),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(words: &[&str], env: &[(&str, &str)]) -> Result<Command, UsageError> {
        let env = |name: &str| {
            let found = env.iter().find(|(it, _)| *it == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        parse(words.iter().map(Into::into).collect(), &env)
    }

    #[track_caller]
    fn run(words: &[&str]) -> RunArgs {
        match parse_line(words, &[]) {
            Ok(Command::Run(args)) => *args,
            other => panic!("not a run: {other:?}"),
        }
    }

    fn images(args: &RunArgs) -> Vec<&str> {
        args.config.wanted.iter().map(|it| it.image.as_written()).collect()
    }

    /// A file that is there as long as the test is.
    struct TempFile(PathBuf);

    impl TempFile {
        fn new(name: &str, text: &str) -> Self {
            let name = format!("prepull-args-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            Self(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for TempFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn every_option_is_understood_in_any_place() {
        let args = run(&[
            "check",
            "a:1",
            "--name=demo",
            "--timeout",
            "5m",
            "b:1",
            "--interval=500ms",
            "--max-nodes-at-once=25%",
            "--strict",
            "--allow-unknown",
            "--failure-policy",
            "Ignore",
            "--output=json",
            "-n",
            "apps",
            "-v",
            "--puller-image=q.io/prepull:2",
            "--server",
            "http://127.0.0.1:8001",
            "c:1",
        ]);
        assert_eq!(images(&args), ["a:1", "b:1", "c:1"]);
        let config = &args.config;
        assert_eq!(config.mode, Mode::Check);
        assert_eq!((config.name.as_str(), config.namespace.as_str()), ("demo", "apps"));
        assert_eq!(config.own_image, "q.io/prepull:2");
        assert_eq!(config.timeout, Duration::from_secs(300));
        assert_eq!(config.interval, Duration::from_millis(500));
        assert_eq!(config.max_nodes_at_once, Some(Share::Percent(25)));
        assert_eq!(args.judgement.failure_policy, FailurePolicy::Ignore);
        assert_eq!(args.judgement.strictness, Strictness::Strict);
        assert_eq!(args.judgement.unknown, Unknown::Allowed);
        assert_eq!((args.output, args.verbosity), (Output::Json, Verbosity::Verbose));
        let url = "http://127.0.0.1:8001".to_owned();
        let at = Server::At { url, certificate_authority: None, token_file: None };
        assert_eq!(args.server, at);
    }

    #[test]
    fn defaults_are_those_of_the_help() {
        let args = run(&["a:1"]);
        let config = &args.config;
        assert_eq!(config.mode, Mode::Run);
        assert_eq!((config.name.as_str(), config.namespace.as_str()), ("prepull", "default"));
        assert_eq!(config.timeout, Duration::from_secs(270));
        assert_eq!(config.interval, Duration::from_secs(2));
        assert_eq!(config.max_nodes_at_once, None);
        assert_eq!(args.judgement.failure_policy, FailurePolicy::Fail);
        assert_eq!(args.judgement.strictness, Strictness::Lenient);
        assert_eq!(args.judgement.unknown, Unknown::Missing);
        assert_eq!((args.output, args.verbosity), (Output::Text, Verbosity::Normal));
        assert_eq!((args.server, args.namespace), (Server::InCluster, None));
        for default in ["270s", "2s", "Fail", "text", "prepull"] {
            assert!(HELP.contains(&format!("[default: {default}]")), "{default}");
        }
    }

    #[test]
    fn commands_stand_first() {
        assert_eq!(run(&["run", "a:1"]).config.mode, Mode::Run);
        assert_eq!(run(&["--dry-run", "a:1"]).config.mode, Mode::DryRun);
        assert_eq!(run(&["check", "--dry-run", "a:1"]).config.mode, Mode::Check);
        assert!(matches!(parse_line(&["hold"], &[]), Ok(Command::Hold)));
        match parse_line(&["install", "/x"], &[]) {
            Ok(Command::Install(path)) => assert_eq!(path.to_str(), Some("/x")),
            other => panic!("not an install: {other:?}"),
        }
        for words in [&["-h"][..], &["check", "--help"], &["a:1", "-h", "--nonsense"]] {
            assert!(matches!(parse_line(words, &[]), Ok(Command::Help)), "{words:?}");
        }
        assert!(matches!(parse_line(&["-V"], &[]), Ok(Command::Version)));
    }

    /// What is wrong, by its name, and what to do, in one line.
    #[test]
    fn bad_input_is_told_in_one_line() {
        let digits = "0".repeat(64);
        let long = "x".repeat(41);
        for (words, operand, advice) in [
            (&["a:1", "--nonsense"][..], "`--nonsense`", "--help"),
            (&["a:1", "--nonsense=7"], "`--nonsense`", "--help"),
            (&["a:1", "-x"], "`-x`", "--help"),
            (&["a:1", "--name", "x", "--name", "y"], "`--name`", "twice"),
            (&["a:1", "--timeout"], "`--timeout`", "value"),
            (&["a:1", "--timeout", "soon"], "`--timeout` `soon`", "270s"),
            (&["a:1", "--timeout", "270"], "`--timeout` `270`", "270s"),
            (&["a:1", "--timeout", "-5s"], "`--timeout` `-5s`", "270s"),
            (&["a:1", "--timeout="], "`--timeout`", "value"),
            (&["a:1", "--timeout", "0s"], "`--timeout`", "270s"),
            (&["a:1", "--interval", "1"], "`--interval` `1`", "270s"),
            (&["a:1", "--interval", "1ms"], "`--interval`", "100ms"),
            (&["a:1", "--max-nodes-at-once", "0"], "`--max-nodes-at-once`", "1 or more"),
            (&["a:1", "--max-nodes-at-once=0%"], "`--max-nodes-at-once`", "1 or more"),
            (&["a:1", "--max-nodes-at-once", "few"], "`few`", "25%"),
            (&["a:1", "--pods-per-node", "0"], "`--pods-per-node` `0`", "from 1 to 10"),
            (&["a:1", "--pods-per-node", "11"], "`11`", "from 1 to 10"),
            (&["a:1", "--failure-policy", "fail"], "`fail`", "Fail or Ignore"),
            (&["a:1", "--output", "yaml"], "`yaml`", "text or json"),
            (&["a:1", "--name", "Demo"], "`--name` `Demo`", "lowercase"),
            (&["a:1", "--name", "-x"], "`--name`", ""),
            (&["a:1", "--name", "x-"], "`--name` `x-`", "lowercase"),
            (&["a:1", "--name", &long], "`--name`", "at most 40"),
            (&["a:1", "-n", "a/b"], "`--namespace` `a/b`", "lowercase"),
            (&["a:1", "--puller-image", "A"], "`--puller-image` `A`", "lowercase"),
            (&["a:1", "--token-file", "x"], "`--token-file`", "--server"),
            (&["a:1", "--settings", "{\"image\": 1}"], "`--settings`", "unknown field"),
            (&["a:1", "--settings", "/nowhere/x"], "`--settings` `/nowhere/x`", "no such file"),
            (&["a:1", "--filename", "/nowhere/x"], "`/nowhere/x`", "no such file"),
            (&["UPPER"], "`UPPER`", "lowercase"),
            (&["a:"], "`a:`", "tag"),
            (&["a@sha256:12"], "`a@sha256:12`", "digest"),
            (&["a b"], "`a b`", ""),
            (&[&digits], "`0000", "image id"),
            (&[""], "``", "empty"),
            (&[], "no images", "--filename"),
            (&["check"], "no images", "--filename"),
            (&["--settings", "{}"], "no images", "--filename"),
            (
                &["--settings", r#"{"images": [{"image": "a", "pullPolicy": "Sometimes"}]}"#],
                "`Sometimes`",
                "Always",
            ),
            (&["install"], "`install`", "path"),
            (&["install", "a", "b"], "`b`", ""),
            (&["hold", "x"], "`x`", ""),
        ] {
            let error = match parse_line(words, &[]) {
                Err(error) => error.to_string(),
                Ok(command) => panic!("{words:?} is taken for {command:?}"),
            };
            assert!(error.contains(operand), "{words:?}: {operand} is not in: {error}");
            assert!(error.contains(advice), "{words:?}: {advice} is not in: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn images_come_from_arguments_then_files_then_settings() {
        let file = TempFile::new(
            "images",
            "# the release\nb:1\n\n  c:1  # with a reason\r\n#d:1\ne@sha256:\
             0000000000000000000000000000000000000000000000000000000000000000\n",
        );
        let settings = TempFile::new("settings", r#"{"images": ["f:1", {"image": "g:1"}]}"#);
        let args = run(&["-f", file.path(), "a:1", "--settings", settings.path()]);
        let names: Vec<_> = images(&args).iter().map(|it| it.split('@').next().unwrap()).collect();
        assert_eq!(names, ["a:1", "b:1", "c:1", "e", "f:1", "g:1"]);
        let bad = TempFile::new("bad", r#"{"puller": {"labels": {"a": 1}}}"#);
        let error = parse_line(&["a:1", "--settings", bad.path()], &[]).unwrap_err().to_string();
        assert!(error.contains(bad.path()) && error.contains("`puller.labels.a`"), "{error}");
    }

    #[test]
    fn an_image_that_is_named_twice_is_pulled_once() {
        let args = run(&["a:1", "b:1", "a:1"]);
        assert_eq!(images(&args), ["a:1", "b:1"]);
        assert_eq!(args.config.groups.len(), 1);
    }

    #[test]
    fn images_of_one_destination_are_one_group() {
        let settings = r#"{
            "images": [
                "b:1",
                {"image": "c:1", "nodeSelector": {"pool": "gpu"}},
                {"image": "d:1", "nodeSelector": {"pool": "gpu"}},
                {"image": "e:1", "tolerations": []},
                {"image": "a:1", "nodeSelector": {"pool": "gpu"}},
                {"image": "f:1", "nodeSelector": {"pool": "cpu"}}
            ],
            "puller": {"nodeSelector": {"pool": "cpu"}, "tolerations": [{"operator": "Exists"}]}
        }"#;
        let args = run(&["a:1", "--settings", settings]);
        let groups: Vec<_> = args.config.groups.iter().map(|it| it.images.clone()).collect();
        assert_eq!(images(&args), ["a:1", "b:1", "c:1", "d:1", "e:1", "a:1", "f:1"]);
        assert_eq!(groups, [vec![0, 1, 6], vec![2, 3, 5], vec![4]]);
        let placement = |group: usize| &args.config.groups[group].placement;
        assert_eq!(placement(0).node_selector["pool"], "cpu");
        assert_eq!(placement(0).node_selector["kubernetes.io/os"], "linux");
        assert_eq!(placement(1).node_selector["pool"], "gpu");
        assert_eq!(placement(1).tolerations.len(), 1);
        assert_eq!(placement(2).tolerations.len(), 0);
    }

    #[test]
    fn a_group_is_dealt_over_the_pods_of_a_node() {
        let settings = r#"{"images": [{"image": "x:1", "nodeSelector": {"pool": "gpu"}}]}"#;
        let args = run(&["--pods-per-node=2", "a:1", "b:1", "c:1", "--settings", settings]);
        let groups: Vec<_> = args.config.groups.iter().map(|it| it.images.clone()).collect();
        assert_eq!(groups, [vec![0, 2], vec![1], vec![3]]);
        assert_eq!(args.config.groups[0].placement, args.config.groups[1].placement);
        assert_ne!(args.config.groups[1].placement, args.config.groups[2].placement);
        assert_eq!(run(&["a:1", "b:1", "c:1"]).config.groups.len(), 1);
    }

    #[test]
    fn a_pull_policy_is_what_the_api_would_make_it() {
        let settings = r#"{"images": [
            "a:1", "b", "c:latest", {"image": "d", "pullPolicy": "IfNotPresent"},
            {"image": "e:1", "pullPolicy": "Never"}
        ]}"#;
        let args = run(&["--settings", settings]);
        let policies: Vec<_> = args.config.wanted.iter().map(|it| it.pull_policy).collect();
        use PullPolicy::{Always, IfNotPresent, Never};
        assert_eq!(policies, [IfNotPresent, Always, Always, IfNotPresent, Never]);
    }

    /// What the API server would refuse in the middle of an install, or what matches nothing.
    #[test]
    fn a_placement_that_can_not_be_is_refused() {
        let affinity = |requirement: &str| {
            format!(
                r#"{{"affinity": {{"nodeAffinity": {{
                    "requiredDuringSchedulingIgnoredDuringExecution": {{"nodeSelectorTerms": [
                        {{"matchExpressions": [{requirement}]}}
                    ]}}}}}}}}"#
            )
        };
        let toleration = |it: &str| format!(r#"{{"tolerations": [{it}]}}"#);
        for (part, named) in [
            (
                affinity(r#"{"key": "zone", "operator": "in", "values": ["a"]}"#),
                &["`in`", "`zone`"],
            ),
            (affinity(r#"{"key": "zone", "operator": "In"}"#), &["`In`", "`zone`"]),
            (affinity(r#"{"key": "z", "operator": "NotIn", "values": []}"#), &["`NotIn`", "`z`"]),
            (
                affinity(r#"{"key": "z", "operator": "Exists", "values": ["a"]}"#),
                &["`Exists`", "1"],
            ),
            (
                affinity(r#"{"key": "z", "operator": "DoesNotExist", "values": ["a"]}"#),
                &["`DoesNotExist`", "`z`"],
            ),
            (affinity(r#"{"key": "z", "operator": "Gt", "values": ["1", "2"]}"#), &["`Gt`", "2"]),
            (affinity(r#"{"key": "z", "operator": "Lt"}"#), &["`Lt`", "`z`"]),
            (toleration(r#"{"key": "gpu", "operator": "exists"}"#), &["`exists`", "Exists"]),
            (toleration(r#"{"key": "gpu", "effect": "NoStart"}"#), &["`NoStart`", "NoSchedule"]),
            (toleration(r#"{"value": "x"}"#), &["without a key", "`Exists`"]),
            (toleration(r#"{"operator": "Equal"}"#), &["without a key", "`Exists`"]),
        ] {
            let of_one = part.replacen('{', r#"{"image": "a:1", "#, 1);
            for settings in [
                format!(r#"{{"images": ["a:1"], "puller": {part}}}"#),
                format!(r#"{{"images": [{of_one}]}}"#),
            ] {
                let error = match parse_line(&["--settings", &settings], &[]) {
                    Err(error) => error.to_string(),
                    Ok(command) => panic!("{settings} is taken for {command:?}"),
                };
                for named in named.iter().chain(&["`--settings` is not valid"]) {
                    assert!(error.contains(named), "{settings}: {named} is not in: {error}");
                }
            }
        }
        for part in [
            affinity(r#"{"key": "z", "operator": "Gt", "values": ["1"]}"#),
            affinity(r#"{"key": "z", "operator": "DoesNotExist"}"#),
            toleration(r#"{"operator": "Exists", "effect": "PreferNoSchedule"}"#),
            toleration(r#"{"key": "n", "operator": "Gt", "value": "1"}"#),
        ] {
            run(&["a:1", "--settings", &format!(r#"{{"puller": {part}}}"#)]);
        }
    }

    #[test]
    fn the_downward_api_says_who_owns_the_run() {
        let owner = |env: &[(&str, &str)]| match parse_line(&["a:1"], env) {
            Ok(Command::Run(args)) => (args.config.owner, args.config.id),
            other => panic!("not a run: {other:?}"),
        };
        let job = [("PREPULL_JOB_NAME", "j"), ("PREPULL_JOB_UID", "ju")];
        let pod = [("PREPULL_POD_NAME", "p"), ("PREPULL_POD_UID", "pu")];
        let both: Vec<_> = job.into_iter().chain(pod).collect();
        for (env, kind, uid) in [(&both[..], "Job", "ju"), (&job, "Job", "ju"), (&pod, "Pod", "pu")]
        {
            let (owner, id) = owner(env);
            assert_eq!((owner.unwrap().kind.as_str(), id.as_str()), (kind, uid));
        }
        for env in [&[][..], &[("PREPULL_JOB_NAME", "j"), ("PREPULL_JOB_UID", "")]] {
            let ((owner, id), (_, other)) = (owner(env), owner(env));
            assert_eq!(owner, None);
            assert_eq!(id.len(), 16);
            assert_ne!(id, other);
        }
    }

    /// `prepull -v check a:1` must not pull `docker.io/library/check` onto every node.
    #[test]
    fn a_command_that_does_not_stand_first_is_refused() {
        for words in [&["-v", "check", "a:1"][..], &["a:1", "check"], &["--name=x", "hold"]] {
            let error = parse_line(words, &[]).unwrap_err().to_string();
            assert!(error.contains("first"), "{words:?}: {error}");
        }
        let error = parse_line(&["-v", "check", "a:1"], &[]).unwrap_err().to_string();
        assert_eq!(error, "put the command `check` first, before options and images");
        for flag in ["--dry-run", "--strict", "--verbose"] {
            for value in ["true", "false"] {
                let error = parse_line(&[&format!("{flag}={value}"), "a:1"], &[]).unwrap_err();
                let error = error.to_string();
                assert!(error.contains(flag) && error.contains("takes no value"), "{error}");
            }
        }
        assert_eq!(images(&run(&["docker.io/library/check"])), ["docker.io/library/check"]);
    }

    #[test]
    fn an_interval_beyond_all_time_is_refused() {
        for interval in ["61m", "18446744073709551615s"] {
            let error = parse_line(&["a:1", "--interval", interval], &[]).unwrap_err().to_string();
            assert!(error.contains("`--interval`"), "{error}");
        }
    }

    /// The end of the run is a date, and the annotation of the expiry has four digits for a year.
    #[test]
    fn a_timeout_beyond_all_dates_is_refused() {
        for timeout in ["9000y", "600000000000000y", "18446744073709551615s"] {
            let error = parse_line(&["a:1", "--timeout", timeout], &[]).unwrap_err().to_string();
            assert!(error.contains("`--timeout`"), "{error}");
        }
    }

    #[test]
    fn an_operand_with_a_line_break_is_told_in_one_line() {
        for words in [
            &["a\nb"][..],
            &["a:1", "--name", "x\ny"],
            &["a:1", "--x\ny"],
            &["a:1", "--output=a\nb"],
            &["a:1", "--settings", "{\"a\u{1b}[2J\": 1}"],
        ] {
            let error = parse_line(words, &[]).unwrap_err().to_string();
            assert!(!error.contains(char::is_control), "{error}");
        }
    }
}
