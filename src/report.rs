//! The report: what was asked, what is where, what is missing and why, and the verdict.
//!
//! Helm shows a hook's log only when the hook has ended, and helm 4 as one quoted record. So a
//! report is short however large the cluster is, every line stands alone, and the last line is
//! the whole verdict.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cluster::EventKind;
use crate::run::{Config, Dropped, GroupRun, Item, Mode, Outcome, Run, Target};
use crate::survey::{Holders, Lacking, Presence, Survey};
use crate::verdict::{CHECK_ACCESS, CHECK_NAME, Outlook, WEBHOOK_IS_DOWN, refusal_advice};
use crate::words::{NAMES_SHOWN, cut, list_of, nodes, one_line, some_of};

/// The version of the JSON report; it grows when a field changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;
/// Lines of each kind, so that a log has no more than 40, those before the report among them.
const IMAGES_SHOWN: usize = 10;
const FAILURES_SHOWN: usize = 7;
const NOTES_SHOWN: usize = 5;
/// Reasons in one line.
const REASONS_SHOWN: usize = 10;
/// `sha256:` and 12 hex digits.
const DIGEST_SHOWN: usize = 19;
/// Bytes of a termination message that the kubelet keeps.
///
/// Source: `MaxContainerTerminationMessageLength` in `pkg/kubelet/container/runtime.go`.
const TERMINATION_MESSAGE: usize = 4096;
/// Bytes of an event's message that every version of the API takes.
///
/// Source: `NoteLengthLimit` in `pkg/apis/core/validation/events.go`.
const EVENT_MESSAGE: usize = 1024;

/// The exit codes, which the Job's pod failure policy and people's scripts build on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// What was asked for is so.
    Done = 0,
    /// It is not, and waiting longer would not help.
    Failed = 1,
    /// It can not be done as it was asked.
    Usage = 2,
    /// The time was over.
    Deadline = 3,
    /// 128 + SIGTERM, as a shell would say.
    Stopped = 143,
}

/// What the exit code is to say of a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailurePolicy {
    /// Exit with 1 or 3.
    Fail,
    /// Report it, and exit 0.
    Ignore,
}

/// What is made of things that may be forgiven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strictness {
    /// They are told, and forgiven.
    Lenient,
    /// They are failures.
    Strict,
}

/// Whether `check` takes "unknown" for an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unknown {
    /// As if the image were there.
    Allowed,
    /// As if it were not.
    Missing,
}

/// What the command line says about judging and showing an end.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    /// `--failure-policy`.
    pub failure_policy: FailurePolicy,
    /// `--strict`.
    pub strictness: Strictness,
    /// `--allow-unknown`.
    pub unknown: Unknown,
}

/// The whole report, in the form of its JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    version: u32,
    /// `ready`, `failed`, `strict`, `deadline`, `stopped`, `usage`, `present`, `missing`,
    /// `unknown` or `planned`.
    outcome: &'static str,
    exit_code: u8,
    elapsed_milliseconds: u64,
    nodes: NodesReport,
    images: Vec<ImageReport>,
    failures: Vec<FailureReport>,
    notes: Vec<String>,
    /// The whole verdict in one sentence.
    verdict: String,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodesReport {
    total: usize,
    eligible: usize,
    /// Reason to names.
    left_out: BTreeMap<String, Vec<String>>,
    /// Node to reason: targets at first, and later no more.
    dropped: BTreeMap<String, String>,
    /// Node to reason: targets that lack something, which is no failure unless `--strict` asks for
    /// it.
    forgiven: BTreeMap<String, String>,
    /// Those of them that have no room for another pod.
    #[serde(skip)]
    full: BTreeSet<String>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageReport {
    image: String,
    /// Nodes that listed it at the first look.
    present: usize,
    /// Nodes that did not, and whose list is complete.
    absent: usize,
    /// Nodes whose list can not tell.
    unknown: usize,
    /// The names of both, where no more was done than to look.
    absent_on: Vec<String>,
    unknown_on: Vec<String>,
    /// Nodes on which a container of ours proved it.
    pulled: usize,
    /// Nodes on which it is not proved.
    missing: usize,
    /// Nodes of its group that are forgiven.
    #[serde(skip)]
    forgiven: usize,
    /// What the nodes say that its tag stands for; more than one entry where the tag has moved.
    digests: Vec<DigestReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DigestReport {
    digest: String,
    nodes: usize,
    /// The first few of them.
    examples: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FailureReport {
    image: String,
    nodes: Vec<String>,
    /// In the words of the kubelet or of the cluster.
    message: String,
    advice: String,
    #[serde(skip)]
    item: Item,
    #[serde(skip)]
    lack: Lack,
}

/// Why an image is missing on a node.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Cause {
    item: Item,
    lack: Lack,
    message: String,
    advice: &'static str,
}

/// How an image is missing.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Lack {
    /// Its pull has failed, and no other try will help.
    FailedForGood,
    /// Its pull has failed.
    Failed,
    /// It has not come yet.
    Pending,
}

impl Report {
    /// The report of a run as far as it has come; one without an outcome was stopped.
    pub fn new(config: &Config, run: &Run<'_>, judgement: Judgement) -> Self {
        let images = image_reports(config, run);
        let outcome = run.outcome().cloned().unwrap_or(Outcome::Stopped);
        let nodes = nodes_report(run.survey(), run.groups());
        let end = end(&outcome, &images, &nodes, judgement);
        let exit = match (end.exit, judgement.failure_policy) {
            (Exit::Deadline | Exit::Failed, FailurePolicy::Ignore) => Exit::Done,
            (exit, _) => exit,
        };
        let mut report = Self {
            version: SCHEMA_VERSION,
            outcome: end.word,
            exit_code: end.exit as u8,
            elapsed_milliseconds: run.elapsed().as_millis() as u64,
            nodes,
            images,
            failures: failure_reports(config, run, &outcome),
            notes: run.notes(),
            verdict: String::new(),
        };
        report.notes.extend(report.images.iter().filter_map(ImageReport::moved_tag));
        report.verdict = one_line(&report.sentence(config, run, &outcome));
        if exit != end.exit {
            report.exit_code = exit as u8;
            report.verdict += " (exit code 0 by the failure policy `Ignore`)";
        }
        report
    }

    /// One of [`Exit`], the failure policy taken into account.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// What, where, why, and what to do, in one sentence.
    pub fn verdict(&self) -> &str {
        &self.verdict
    }

    /// The whole report on one line, as `docs/report.schema.json` has it.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a report is made of text and numbers")
    }

    /// The verdict and as many of the other lines as the kubelet takes.
    pub fn termination_message(&self) -> String {
        let mut lines = self.lines(Verbosity::Normal);
        lines.rotate_right(1);
        cut(&lines.join("\n"), TERMINATION_MESSAGE).into()
    }

    /// What kind of event tells of this end, and its reason. What cost the cluster nothing is not
    /// worth one.
    pub fn event(&self) -> Option<(EventKind, &'static str)> {
        match self.outcome {
            "ready" if !self.nodes.forgiven.is_empty() => {
                Some((EventKind::Warning, "ImagesPulledWithGaps"))
            }
            "ready" if self.images.iter().all(|it| it.pulled == 0) => None,
            "ready" => Some((EventKind::Normal, "ImagesPulled")),
            "failed" | STRICTLY_FAILED | "usage" => Some((EventKind::Warning, "ImagesMissing")),
            "deadline" => Some((EventKind::Warning, "ImagesLate")),
            "stopped" => Some((EventKind::Warning, "PullStopped")),
            _ => None,
        }
    }

    /// The verdict, or as much of it as an event takes.
    pub fn event_message(&self) -> &str {
        cut(&self.verdict, EVENT_MESSAGE)
    }

    /// The lines of the report, the verdict last. Verbose ones name every node.
    pub fn lines(&self, verbosity: Verbosity) -> Vec<String> {
        let limit = |most| match verbosity {
            Verbosity::Normal => most,
            Verbosity::Verbose => usize::MAX,
        };
        let shown = limit(NAMES_SHOWN);
        // Where nothing was looked at, there is nothing to say of the images.
        let seen = self.images.iter().filter(|_| self.nodes.total > 0);
        let mut lines: Vec<_> =
            limited(seen.map(|it| it.line(shown)), limit(IMAGES_SHOWN), "images");
        // A single one needs no line of its own where the verdict says it.
        let is_told = |it: &FailureReport| self.verdict.contains(&one_line(&it.line(shown)));
        if self.failures.len() > 1 || !self.failures.iter().all(is_told) {
            let failures = self.failures.iter().map(|it| it.line(shown));
            lines.extend(limited(failures, limit(FAILURES_SHOWN), "failures"));
        }
        if !self.nodes.left_out.is_empty() {
            let reasons = self.nodes.left_out.iter().map(|(reason, names)| {
                format!("{reason}: {}", list_of(names.iter().map(String::as_str), shown))
            });
            let n_left_out: usize = self.nodes.left_out.values().map(Vec::len).sum();
            let reasons = limited(reasons, limit(REASONS_SHOWN), "reasons");
            let total = nodes(self.nodes.total);
            lines.push(format!("left out {n_left_out} of {total}: {}", reasons.join("; ")));
        }
        if !self.nodes.dropped.is_empty() {
            let dropped = some_of_with_reasons(&self.nodes.dropped, shown);
            lines.push(format!("no longer waited for: {dropped}"));
        }
        if !self.nodes.forgiven.is_empty() {
            let n_forgiven = nodes(self.nodes.forgiven.len());
            let forgiven = some_of_with_reasons(&self.nodes.forgiven, shown);
            lines.push(format!("warning: {n_forgiven} may lack images: {forgiven}"));
        }
        let notes = self.notes.iter().map(|it| format!("note: {it}"));
        lines.extend(limited(notes, limit(NOTES_SHOWN), "notes"));
        lines.push(self.verdict.clone());
        // Names and words come from others.
        lines.iter().map(|it| one_line(it)).collect()
    }

    /// The verdict: what, where, why, and what to do.
    fn sentence(&self, config: &Config, run: &Run<'_>, outcome: &Outcome) -> String {
        let placed: Vec<_> = self.images.iter().filter(|it| !it.is_nowhere()).collect();
        let images = match placed.as_slice() {
            [one] => format!("`{}`", one.image),
            _ if placed.is_empty() => format!("{} images", self.images.len()),
            _ => format!("{} images", placed.len()),
        };
        let eligible = nodes(self.nodes.eligible);
        let tenths = self.elapsed_milliseconds / 100;
        let seconds = format!("{}.{}", tenths / 10, tenths % 10);
        let is_lost = self.nodes.eligible == 0 && self.nodes.forgiven.is_empty();
        if self.outcome == STRICTLY_FAILED {
            let why = match outcome {
                Outcome::NoNodes => {
                    format!("{}: check nodeSelector, affinity and tolerations", self.nobody())
                }
                _ if is_lost => NOBODY_LEFT.into(),
                _ => self.gaps_that_fail(),
            };
            return format!("failed, as asked by `--strict`: {why}");
        }
        let without = self.gaps();
        match outcome {
            Outcome::CannotPull(_) => match self.failures.first() {
                Some(failure) => {
                    let more = match self.failures.len() {
                        1 => String::new(),
                        2 => "; and 1 other failure".into(),
                        n => format!("; and {} other failures", n - 1),
                    };
                    format!("failed: {}{more}", failure.line(NAMES_SHOWN))
                }
                None => "failed: an image cannot be pulled".into(),
            },
            Outcome::Checked | Outcome::Planned => {
                self.look_sentence(&images, placed.len(), outcome) + &without
            }
            Outcome::Deadline => {
                let why = match (run.fault(), self.failures.first()) {
                    (Some(fault), _) => fault.to_owned(),
                    (None, Some(failure)) => failure.line(NAMES_SHOWN),
                    (None, None) => "the cluster did not answer in time".into(),
                };
                let timeout = humantime::format_duration(config.timeout);
                let advice = match run.fault() {
                    Some(fault) if fault.contains(WEBHOOK_IS_DOWN) => refusal_advice(fault),
                    Some(fault) if fault.starts_with("cannot ") => {
                        "check that the API server answers"
                    }
                    Some(_) => "look at what keeps it",
                    None if !self.failures.is_empty() && !self.failures.iter().any(may_pass) => {
                        return format!("failed: time ran out after {timeout}: {why}");
                    }
                    None if config.owner.is_none() => {
                        "a rerun goes on where this one stopped; for more time raise `--timeout`"
                    }
                    None => {
                        "a rerun goes on where this one stopped; for more time raise \
                         `timeoutSeconds` here and `--timeout` of helm"
                    }
                };
                format!("failed: time ran out after {timeout}: {why}: {advice}")
            }
            Outcome::Failed { cause } => format!("failed: {cause}"),
            Outcome::NoNodes => format!(
                "ready: {}, so there is nothing to pull: check nodeSelector, affinity and \
                 tolerations if this is not what you want",
                self.nobody()
            ),
            Outcome::Ready
                if run.groups().iter().all(|it| it.targets.nodes.is_empty())
                    && self.nodes.dropped.is_empty()
                    && self.nodes.forgiven.is_empty() =>
            {
                format!("ready: {eligible} had {images} already{without}")
            }
            Outcome::Ready if is_lost => format!("ready: {NOBODY_LEFT}{without}"),
            Outcome::Ready => format!("ready: {images} on {eligible} after {seconds} s{without}"),
            Outcome::Stopped => match run.fault() {
                Some(fault) => format!("stopped by a signal after {seconds} s: {fault}"),
                None => format!("stopped by a signal after {seconds} s"),
            },
            Outcome::Usage { cause } => cause.clone(),
        }
    }

    /// That no node is eligible.
    fn nobody(&self) -> String {
        match self.nodes.total {
            // Without a look at the nodes, it is not known how many there are.
            0 => "no node may run the pods of this release".into(),
            n => format!("none of {} may run the pods of this release", nodes(n)),
        }
    }

    /// What is missing all the same.
    fn gaps(&self) -> String {
        let homeless = match self.without_a_node() {
            Some(images) => format!("; no node may run {images}"),
            None => String::new(),
        };
        let forgiven = &self.nodes.forgiven;
        let reasons: BTreeSet<_> = forgiven.values().collect();
        let names = some_of(forgiven.keys().map(String::as_str));
        let n_nodes = nodes(forgiven.len());
        match Vec::from_iter(reasons).as_slice() {
            [] => homeless,
            [why] if forgiven.len() == 1 => {
                format!("{homeless}; but not on {names}, forgiven: {why}")
            }
            [why] => format!("{homeless}; but not on {n_nodes} ({names}), forgiven: {why}"),
            _ => {
                let each = some_of_with_reasons(forgiven, NAMES_SHOWN);
                format!("{homeless}; but not on {n_nodes}, forgiven: {each}")
            }
        }
    }

    /// What of that is a failure for `--strict`, and what to do.
    fn gaps_that_fail(&self) -> String {
        let homeless =
            self.without_a_node().map(|it| format!("no node may run {it}: give it a node"));
        let (names, why) = (some_of(self.nodes.full.iter().map(String::as_str)), Dropped::NoRoom);
        let full = match self.nodes.full.len() {
            0 => None,
            1 => Some(format!("{names} lacks images: {why}: make room there")),
            _ => Some(format!("{names} lack images: {why}: make room there")),
        };
        let gaps: Vec<_> = homeless.into_iter().chain(full).collect();
        format!("{}, or leave `--strict` out", gaps.join("; "))
    }

    /// The images that have no node, although others have.
    fn without_a_node(&self) -> Option<String> {
        let homeless: Vec<_> = homeless(&self.images, &self.nodes).collect();
        let (first, rest) = homeless.split_first()?;
        Some(match rest.len() {
            0 => format!("`{first}`"),
            n => format!("`{first}` and {n} more"),
        })
    }

    fn look_sentence(&self, images: &str, n_placed: usize, outcome: &Outcome) -> String {
        let lacking: Vec<_> = self.images.iter().filter(|it| it.n_lacking() > 0).collect();
        let absent = lacking.iter().find(|it| it.absent > 0);
        let Some(first) = absent.or(lacking.first()) else {
            return format!("present: {} had {images} already", nodes(self.nodes.eligible));
        };
        if *outcome == Outcome::Planned {
            return match n_placed {
                1 => format!("would pull {images} where it is missing"),
                _ => format!("would pull {} of {images} where they are missing", lacking.len()),
            };
        }
        let first = first.line(NAMES_SHOWN);
        let first = match n_placed {
            1 => first,
            _ => format!("{} of {images}, first {first}", lacking.len()),
        };
        if absent.is_some() {
            return format!("missing: {first}: pull with `prepull run`");
        }
        let what_now = match self.exit_code {
            0 => "allowed by `--allow-unknown`",
            _ => "find out with `prepull run`, or take it for present with `--allow-unknown`",
        };
        format!("unknown: {first}: the nodes' lists cannot tell: {what_now}")
    }
}

/// How much is said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verbosity {
    /// At most 40 lines, whatever the size of the cluster.
    Normal,
    /// Every node by name (`-v`).
    Verbose,
}

impl ImageReport {
    /// Whether no node was to hold it.
    fn is_nowhere(&self) -> bool {
        self.present + self.n_lacking() + self.pulled + self.missing + self.forgiven == 0
    }

    fn n_lacking(&self) -> usize {
        self.absent + self.unknown
    }

    fn line(&self, names_shown: usize) -> String {
        let Self { image, present, pulled, missing, .. } = self;
        let counts = [("already on", *present), ("pulled on", *pulled), ("missing on", *missing)];
        let counts = counts.iter().filter(|(_, n_nodes)| *n_nodes > 0);
        let mut parts: Vec<_> =
            counts.map(|(word, n_nodes)| format!("{word} {}", nodes(*n_nodes))).collect();
        // Nobody tried to pull what a mere look found missing.
        if *pulled + *missing == 0 {
            let lists = [
                ("absent on", self.absent, &self.absent_on),
                ("unknown on", self.unknown, &self.unknown_on),
            ];
            for (word, n_nodes, names) in lists.into_iter().filter(|it| it.1 > 0) {
                let names = match list_of(names.iter().map(String::as_str), names_shown) {
                    list if list.is_empty() => list,
                    list => format!(" ({list})"),
                };
                parts.push(format!("{word} {}{names}", nodes(n_nodes)));
            }
        }
        if parts.is_empty() {
            return format!("{image}: on no node");
        }
        let digest = match self.digests.as_slice() {
            [one] => format!(" ({})", one.shown()),
            _ => String::new(),
        };
        format!("{image}{digest}: {}", parts.join(", "))
    }

    /// Says that nodes hold different things under the image's tag.
    fn moved_tag(&self) -> Option<String> {
        if self.digests.len() < 2 {
            return None;
        }
        let on = self.digests.iter().map(|it| {
            let names = some_of(it.examples.iter().map(String::as_str));
            let n_more = it.nodes - it.examples.len();
            let more = if n_more > 0 { format!(" and {n_more} more") } else { String::new() };
            format!("{} on {names}{more}", it.shown())
        });
        Some(format!(
            "nodes hold different images under the name `{}`: {}: pin the digest, or pull it with \
             the policy `Always`",
            self.image,
            on.collect::<Vec<_>>().join(", ")
        ))
    }
}

impl DigestReport {
    /// Enough of it to tell it from others, as docker and crictl show it.
    fn shown(&self) -> &str {
        self.digest.get(..DIGEST_SHOWN).unwrap_or(&self.digest)
    }
}

impl FailureReport {
    fn line(&self, names_shown: usize) -> String {
        let Self { image, nodes: names, message, advice, item, lack } = self;
        let image = match item {
            Item::Image(_) => format!("`{image}`"),
            Item::OwnImage => format!("prepull's own image `{image}`"),
        };
        let on = list_of(names.iter().map(String::as_str), names_shown);
        let on = format!("{} ({on})", nodes(names.len()));
        let mut line = match lack {
            Lack::Failed | Lack::FailedForGood => format!("cannot pull {image} on {on}: {message}"),
            Lack::Pending => format!("{image} is not on {on} yet: {message}"),
        };
        if !advice.is_empty() {
            line = format!("{line}: {advice}");
        }
        line
    }
}

/// Whether more time may help.
fn may_pass(failure: &FailureReport) -> bool {
    match failure.lack {
        Lack::FailedForGood => false,
        Lack::Failed => true,
        Lack::Pending => failure.advice.is_empty(),
    }
}

/// The first few nodes with their reasons, and how many more there are.
fn some_of_with_reasons(reasons: &BTreeMap<String, String>, shown: usize) -> String {
    let each: Vec<_> = reasons.iter().map(|(name, why)| format!("{name} ({why})")).collect();
    list_of(each.iter().map(String::as_str), shown)
}

fn limited(lines: impl Iterator<Item = String>, most: usize, what: &str) -> Vec<String> {
    let mut lines: Vec<_> = lines.collect();
    if lines.len() > most {
        let n_more = lines.len() - (most - 1);
        lines.truncate(most - 1);
        lines.push(format!("and {n_more} more {what}"));
    }
    lines
}

/// Images that have no node to go to, although others have.
fn homeless<'a>(
    images: &'a [ImageReport],
    nodes: &NodesReport,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let some_have = nodes.eligible > 0;
    images.iter().filter(move |it| some_have && it.is_nowhere()).map(|it| it.image.as_str())
}

/// The outcome's word where only `--strict` makes it a failure.
const STRICTLY_FAILED: &str = "strict";

/// What is said when every target was dropped.
const NOBODY_LEFT: &str = "no node is left that may run the pods of this release";

/// An outcome's word in the report, and its exit code.
struct End {
    word: &'static str,
    exit: Exit,
}

fn end(
    outcome: &Outcome,
    images: &[ImageReport],
    nodes: &NodesReport,
    judgement: Judgement,
) -> End {
    let is_empty = nodes.total > 0 && nodes.eligible == 0;
    let is_lost = *outcome == Outcome::Ready && is_empty && nodes.forgiven.is_empty();
    let has_gap = match outcome {
        Outcome::NoNodes => true,
        Outcome::Checked | Outcome::Ready => {
            homeless(images, nodes).next().is_some() || !nodes.full.is_empty() || is_lost
        }
        _ => false,
    };
    if judgement.strictness == Strictness::Strict && has_gap {
        return End { word: STRICTLY_FAILED, exit: Exit::Failed };
    }
    let n_absent: usize = images.iter().map(|it| it.absent).sum();
    let n_unknown: usize = images.iter().map(|it| it.unknown).sum();
    let (word, exit) = match outcome {
        Outcome::CannotPull(_) | Outcome::Failed { .. } => ("failed", Exit::Failed),
        Outcome::Checked if n_absent == 0 && n_unknown == 0 => ("present", Exit::Done),
        Outcome::Checked if n_absent > 0 => ("missing", Exit::Failed),
        Outcome::Checked if judgement.unknown == Unknown::Allowed => ("unknown", Exit::Done),
        Outcome::Checked => ("unknown", Exit::Failed),
        Outcome::Deadline => ("deadline", Exit::Deadline),
        Outcome::NoNodes | Outcome::Ready => ("ready", Exit::Done),
        Outcome::Planned => ("planned", Exit::Done),
        Outcome::Stopped => ("stopped", Exit::Stopped),
        Outcome::Usage { .. } => ("usage", Exit::Usage),
    };
    End { word, exit }
}

fn nodes_report(survey: Option<&Survey>, groups: &[GroupRun]) -> NodesReport {
    let dropped = groups.iter().flat_map(|it| &it.targets.dropped);
    let (forgiven, dropped): (Vec<_>, Vec<_>) = dropped.partition(|(_, why)| why.is_forgiven());
    let full = forgiven.iter().filter(|(_, why)| **why == Dropped::NoRoom);
    let full = full.map(|(name, _)| (*name).clone()).collect();
    let told = |nodes: Vec<(&String, &Dropped)>| {
        nodes.into_iter().map(|(name, why)| (name.clone(), why.to_string())).collect()
    };
    let (forgiven, dropped) = (told(forgiven), told(dropped));
    match survey {
        Some(survey) => NodesReport {
            total: survey.n_nodes,
            eligible: n_held(survey, groups),
            left_out: survey
                .left_out
                .iter()
                .map(|(reason, names)| (reason.to_string(), still_left_out(names, groups)))
                .filter(|(_, names)| !names.is_empty())
                .collect(),
            dropped,
            forgiven,
            full,
        },
        // Without a look at the nodes, those are known that a pod was on.
        None => {
            let names: BTreeSet<_> = groups.iter().flat_map(|it| it.targets.nodes.keys()).collect();
            NodesReport {
                total: names.iter().copied().chain(forgiven.keys()).collect::<BTreeSet<_>>().len(),
                eligible: names.len(),
                left_out: BTreeMap::new(),
                dropped,
                forgiven,
                full,
            }
        }
    }
}

/// Those of these that did not become targets later.
fn still_left_out(names: &[String], groups: &[GroupRun]) -> Vec<String> {
    let has_joined = |name: &String| {
        let of = |it: &GroupRun| {
            it.targets.nodes.contains_key(name) || it.targets.dropped.contains_key(name)
        };
        groups.iter().any(of)
    };
    names.iter().filter(|it| !has_joined(it)).cloned().collect()
}

/// How many nodes it came down to: those of the first look and those that joined, without those
/// that went.
fn n_held(survey: &Survey, groups: &[GroupRun]) -> usize {
    let mut names: BTreeSet<&String> =
        survey.groups.iter().flat_map(|it| it.eligible.values()).collect();
    names.extend(groups.iter().flat_map(|it| it.targets.nodes.keys()));
    for name in groups.iter().flat_map(|it| it.targets.dropped.keys()) {
        // Another group may hold on to it.
        if !groups.iter().any(|it| it.targets.nodes.contains_key(name)) {
            names.remove(name);
        }
    }
    names.len()
}

fn image_reports(config: &Config, run: &Run<'_>) -> Vec<ImageReport> {
    let mut images: Vec<_> = config
        .wanted
        .iter()
        .enumerate()
        .map(|(place, it)| ImageReport {
            image: it.image.to_string(),
            present: 0,
            absent: 0,
            unknown: 0,
            absent_on: vec![],
            unknown_on: vec![],
            pulled: 0,
            missing: 0,
            forgiven: 0,
            digests: digests(place, config, run),
        })
        .collect();
    let surveyed = run.survey().map(|it| it.groups.as_slice()).unwrap_or_default();
    for (group, found) in config.groups.iter().zip(surveyed) {
        for &place in &group.images {
            let names = |presence| {
                let is_it = |it: &&Lacking| it.images.get(&place) == Some(&presence);
                found.lacking.iter().filter(is_it).map(|it| it.name.clone()).collect::<Vec<_>>()
            };
            let image = &mut images[place];
            image.absent_on = names(Presence::Absent);
            image.unknown_on = names(Presence::Unknown);
            (image.absent, image.unknown) = (image.absent_on.len(), image.unknown_on.len());
            // A list may name a node twice, when it changes between two pages.
            image.present = found.eligible.len().saturating_sub(image.n_lacking());
        }
    }
    for (group, run) in config.groups.iter().zip(run.groups()) {
        let forgiven = run.targets.dropped.values().filter(|it| it.is_forgiven()).count();
        group.images.iter().for_each(|&place| images[place].forgiven = forgiven);
    }
    for target in run.groups().iter().flat_map(|it| it.targets.nodes.values()) {
        target.pulled.iter().for_each(|&place| images[place].pulled += 1);
        target.lacking.iter().for_each(|&place| images[place].missing += 1);
    }
    for image in &mut images {
        match config.mode {
            Mode::Check | Mode::DryRun => image.missing = 0,
            Mode::Run => {
                image.absent_on.clear();
                image.unknown_on.clear();
            }
        }
    }
    images
}

/// What the tag of an image stands for, by what the nodes list and what the pods pulled. A digest
/// in the reference stands for itself.
fn digests(place: usize, config: &Config, run: &Run<'_>) -> Vec<DigestReport> {
    let wanted = &config.wanted[place].image;
    if wanted.digest().is_some() {
        return vec![];
    }
    let listed = run.survey().and_then(|it| it.digests.get(&place));
    let mut holders: BTreeMap<String, Holders> = listed.cloned().unwrap_or_default();
    for (name, target) in run.groups().iter().flat_map(|it| &it.targets.nodes) {
        let pulled_as = target.digested_names.get(&place);
        if let Some(digest) = pulled_as.and_then(|it| wanted.digest_in(it)) {
            holders.entry(digest).or_default().add(name);
        }
    }
    let reports = holders.into_iter().map(|(digest, it)| DigestReport {
        digest,
        nodes: it.n_nodes,
        examples: it.names,
    });
    reports.collect()
}

/// What failed where, nodes of the same cause together: the certain failures first, then by the
/// number of nodes.
fn failure_reports(config: &Config, run: &Run<'_>, outcome: &Outcome) -> Vec<FailureReport> {
    if !matches!(
        outcome,
        Outcome::CannotPull(_) | Outcome::Deadline | Outcome::Failed { .. } | Outcome::Stopped
    ) {
        return vec![];
    }
    let is_certain = |it: &Cause| match outcome {
        Outcome::CannotPull(certain) => {
            certain.contains(&it.item) && it.lack == Lack::FailedForGood
        }
        _ => false,
    };
    let mut nodes_by_cause: BTreeMap<Cause, Vec<String>> = BTreeMap::new();
    for group in run.groups() {
        for (name, target) in group.targets.unfinished() {
            for cause in causes(target, group.waiting_for(name, target), outcome) {
                nodes_by_cause.entry(cause).or_default().push(name.to_owned());
            }
        }
    }
    let missing: BTreeSet<_> =
        run.groups().iter().flat_map(|it| &it.targets.missing_secrets).collect();
    let mut causes: Vec<_> = nodes_by_cause.into_iter().collect();
    causes.sort_by_key(|(it, names)| (!is_certain(it), usize::MAX - names.len()));
    causes
        .into_iter()
        .map(|(cause, nodes)| FailureReport {
            image: match cause.item {
                Item::Image(place) => config.wanted[place].image.to_string(),
                Item::OwnImage => config.own_image.clone(),
            },
            nodes,
            message: cause.message,
            advice: match cause.advice {
                CHECK_ACCESS if !missing.is_empty() => secrets_to_make(&missing, config),
                // Some registries say so to strangers, whether it is there or not.
                CHECK_NAME if !missing.is_empty() => {
                    format!("{CHECK_NAME}; {}", secrets_to_make(&missing, config))
                }
                advice => advice.into(),
            },
            item: cause.item,
            lack: cause.lack,
        })
        .collect()
}

/// Without its pull secret a pull is refused like that of any stranger.
fn secrets_to_make(missing: &BTreeSet<&String>, config: &Config) -> String {
    let names: Vec<_> = missing.iter().map(|it| format!("`{it}`")).collect();
    let names = list_of(names.iter().map(String::as_str), NAMES_SHOWN);
    let (secret, does, it) = match missing.len() {
        1 => ("secret", "does", "it"),
        _ => ("secrets", "do", "them"),
    };
    let ns = &config.namespace;
    format!("{secret} {names} {does} not exist in namespace `{ns}`: create {it} before the release")
}

/// Why a target is unfinished.
fn causes(target: &Target, waiting_for: &str, outcome: &Outcome) -> Vec<Cause> {
    let failed = target.failures.iter().map(|(item, it)| Cause {
        item: *item,
        lack: match it.verdict.outlook {
            Outlook::Permanent => Lack::FailedForGood,
            Outlook::Transient => Lack::Failed,
        },
        message: it.message.clone(),
        advice: it.verdict.advice,
    });
    let mut causes: Vec<_> = failed.collect();
    let has_ended_early = matches!(outcome, Outcome::CannotPull(_) | Outcome::Failed { .. });
    // What was still under way then has not failed.
    if has_ended_early || target.failures.contains_key(&Item::OwnImage) {
        return causes;
    }
    let items = target.lacking.iter().map(|it| Item::Image(*it));
    let pending = items.filter(|it| !target.failures.contains_key(it)).map(|item| Cause {
        item,
        lack: Lack::Pending,
        message: waiting_for.to_owned(),
        advice: target.advice(),
    });
    causes.extend(pending);
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageReport {
        ImageReport { image: "q.io/a:1".into(), ..ImageReport::default() }
    }

    fn names(n_nodes: usize) -> Vec<String> {
        (1..=n_nodes).map(|it| format!("n{it}")).collect()
    }

    #[test]
    fn lines_of_one_kind_are_bounded() {
        let lines = |n: usize| limited((0..n).map(|it| it.to_string()), 10, "things");
        assert_eq!(lines(10).len(), 10);
        assert_eq!(lines(11).len(), 10);
        assert_eq!(lines(11).last().unwrap(), "and 2 more things");
        assert_eq!(lines(100).last().unwrap(), "and 91 more things");
    }

    #[test]
    fn an_images_line_says_what_is_known() {
        let line = |[present, absent, unknown, pulled, missing]: [usize; 5]| {
            let (absent_on, unknown_on) = (names(absent), vec![]);
            let counts = ImageReport { present, absent, unknown, pulled, missing, ..image() };
            ImageReport { absent_on, unknown_on, ..counts }.line(2)
        };
        assert_eq!(line([3, 0, 0, 0, 0]), "q.io/a:1: already on 3 nodes");
        assert_eq!(line([1, 2, 0, 2, 0]), "q.io/a:1: already on 1 node, pulled on 2 nodes");
        assert_eq!(line([0, 2, 1, 2, 1]), "q.io/a:1: pulled on 2 nodes, missing on 1 node");
        assert_eq!(
            line([1, 3, 1, 0, 0]),
            "q.io/a:1: already on 1 node, absent on 3 nodes (n1, n2 and 1 more), unknown on 1 node"
        );
        assert_eq!(line([0; 5]), "q.io/a:1: on no node");
    }

    #[test]
    fn a_tag_that_has_moved_is_told() {
        let digest = |digit: &str, nodes, examples: &[&str]| DigestReport {
            digest: format!("sha256:{}", digit.repeat(64)),
            nodes,
            examples: examples.iter().map(|it| (*it).to_owned()).collect(),
        };
        let digests = vec![digest("0", 3, &["n1", "n2", "n3"])];
        let mut image = ImageReport { present: 3, digests, ..image() };
        assert_eq!(image.line(5), "q.io/a:1 (sha256:000000000000): already on 3 nodes");
        assert_eq!(image.moved_tag(), None);
        image.digests.push(digest("1", 7, &["n4", "n5"]));
        assert_eq!(image.line(5), "q.io/a:1: already on 3 nodes");
        let told = image.moved_tag().unwrap();
        for part in
            ["sha256:000000000000 on n1, n2, n3", "sha256:111111111111 on n4, n5 and 5 more"]
        {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn a_failure_says_what_where_why_and_what_to_do() {
        let failure = |item, lack, advice: &str| {
            let message = "q.io/a:1: not found".into();
            let failure = FailureReport {
                image: "q.io/a:1".into(),
                nodes: names(7),
                advice: advice.into(),
                message,
                item,
                lack,
            };
            failure.line(5)
        };
        let on = "7 nodes (n1, n2, n3, n4, n5 and 2 more)";
        for (item, lack, advice, line) in [
            (
                Item::Image(0),
                Lack::Failed,
                "check the tag",
                format!("cannot pull `q.io/a:1` on {on}: q.io/a:1: not found: check the tag"),
            ),
            (
                Item::OwnImage,
                Lack::Failed,
                "",
                format!("cannot pull prepull's own image `q.io/a:1` on {on}: q.io/a:1: not found"),
            ),
            (
                Item::Image(0),
                Lack::Pending,
                "",
                format!("`q.io/a:1` is not on {on} yet: q.io/a:1: not found"),
            ),
        ] {
            assert_eq!(failure(item, lack, advice), line);
        }
    }

    #[test]
    fn the_last_words_fit_and_begin_with_the_verdict() {
        let report = Report {
            version: SCHEMA_VERSION,
            outcome: "failed",
            exit_code: 1,
            elapsed_milliseconds: 0,
            nodes: NodesReport::default(),
            images: vec![],
            failures: vec![],
            notes: vec!["ä".repeat(1000); 9],
            verdict: format!("failed: {}", "x".repeat(2000)),
        };
        let message = report.termination_message();
        assert!(message.starts_with(&format!("{}\nnote: ", report.verdict)), "{message}");
        assert!((4090..=4096).contains(&message.len()), "{}", message.len());
        assert_eq!(report.event_message().len(), 1024);
    }

    #[test]
    fn the_exit_code_is_the_outcomes_and_the_judgements() {
        let image = |absent, unknown| ImageReport { absent, unknown, ..image() };
        let lenient = Judgement {
            failure_policy: FailurePolicy::Fail,
            strictness: Strictness::Lenient,
            unknown: Unknown::Missing,
        };
        let strict = Judgement { strictness: Strictness::Strict, ..lenient };
        let allowing = Judgement { unknown: Unknown::Allowed, ..lenient };
        let cause = String::new;
        for (outcome, images, judgement, word, exit) in [
            (Outcome::CannotPull(BTreeSet::new()), image(1, 0), lenient, "failed", 1),
            (Outcome::Checked, image(0, 0), lenient, "present", 0),
            (Outcome::Checked, image(1, 0), lenient, "missing", 1),
            (Outcome::Checked, image(1, 1), allowing, "missing", 1),
            (Outcome::Checked, image(0, 1), lenient, "unknown", 1),
            (Outcome::Checked, image(0, 1), allowing, "unknown", 0),
            (Outcome::Deadline, image(1, 0), lenient, "deadline", 3),
            (Outcome::Failed { cause: cause() }, image(1, 0), lenient, "failed", 1),
            (Outcome::NoNodes, image(0, 0), lenient, "ready", 0),
            (Outcome::NoNodes, image(0, 0), strict, "strict", 1),
            (Outcome::Planned, image(1, 0), strict, "planned", 0),
            (Outcome::Ready, image(1, 0), strict, "ready", 0),
            (Outcome::Stopped, image(1, 0), lenient, "stopped", 143),
            (Outcome::Usage { cause: cause() }, image(1, 0), lenient, "usage", 2),
        ] {
            let end = end(&outcome, &[images], &NodesReport::default(), judgement);
            assert_eq!((end.word, end.exit as u8), (word, exit), "{outcome:?}");
        }
    }
}
