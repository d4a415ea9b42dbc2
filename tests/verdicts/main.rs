//! What the program makes of words that were really said about failed pulls and refused pods.
//!
//! - `containerd.json` and `refusals.json` were captured by the end-to-end tests `registry_faults`,
//!   `refused_pods` and `apart::strained`; with `VERDICTS=write` those capture them anew.
//! - `published.json` has what CRI-O and older versions of containerd say, with its sources.

use std::collections::{BTreeMap, BTreeSet};

use prepull::verdict::{Outlook, REASONS, REFUSALS, RULES, judge, refusal_advice, says};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
struct Said {
    reason: String,
    message: String,
}

/// By the name of the failure.
fn captured(document: &str) -> BTreeMap<String, Vec<Said>> {
    serde_json::from_str(document).expect("it is in the form of the end-to-end tests")
}

fn of_containerd() -> BTreeMap<String, Vec<Said>> {
    captured(include_str!("containerd.json"))
}

fn published() -> Vec<Published> {
    let published: Vec<Published> =
        serde_json::from_str(include_str!("published.json")).expect("it is in that form");
    assert!(published.iter().all(|it| !it.source.is_empty()), "somebody was told all of it");
    published
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    failure: String,
    reason: String,
    message: String,
    /// Where it stands in the source of the runtime, or where somebody was told it.
    source: String,
}

/// Every message about a failed pull, and the failure that it tells of.
fn about_pulls() -> Vec<(String, Said)> {
    let heard = of_containerd().into_iter();
    let heard = heard.flat_map(|(name, said)| said.into_iter().map(move |it| (name.clone(), it)));
    let read = published().into_iter();
    let read =
        read.map(|Published { failure, reason, message, .. }| (failure, Said { reason, message }));
    heard.chain(read).collect()
}

/// What each failure means, whoever tells of it: whether it stays, and words of the advice.
const MEANINGS: [(&str, Outlook, &str); 33] = [
    ("ambiguous-name", Outlook::Permanent, "write the registry in front"),
    ("blobs-missing", Outlook::Permanent, "the registry lacks parts of it"),
    ("closed", Outlook::Transient, "reach the registry"),
    ("cut-short", Outlook::Transient, "reach the registry"),
    ("disk-full", Outlook::Permanent, "free disk space"),
    ("forbidden", Outlook::Permanent, "pull secrets"),
    ("hang", Outlook::Transient, "nothing came for too long"),
    ("invalid-name", Outlook::Permanent, "correct the image name"),
    ("limited", Outlook::Transient, "the registry limits pulls"),
    ("limited-later", Outlook::Transient, "the registry limits pulls"),
    ("missing", Outlook::Permanent, "the image name and the tag"),
    ("never-pulled", Outlook::Permanent, "load the image onto the node"),
    ("no-answer", Outlook::Transient, "reach the registry"),
    ("no-handshake", Outlook::Transient, "reach the registry"),
    ("no-name", Outlook::Transient, "name servers"),
    ("no-route", Outlook::Transient, "reach the registry"),
    ("no-tls", Outlook::Permanent, "has no TLS"),
    ("not-signed", Outlook::Permanent, "sign the image"),
    ("other-platform", Outlook::Permanent, "nodes' platform"),
    ("refused", Outlook::Transient, "reach the registry"),
    ("reset", Outlook::Transient, "reach the registry"),
    ("status-500", Outlook::Transient, "well again"),
    ("status-502", Outlook::Transient, "well again"),
    ("status-503", Outlook::Transient, "well again"),
    ("status-504", Outlook::Transient, "well again"),
    ("token-fails", Outlook::Transient, "well again"),
    ("token-refused", Outlook::Permanent, "pull secrets"),
    ("too-often", Outlook::Transient, "registryPullQPS"),
    ("unauthorized", Outlook::Permanent, "pull secrets"),
    ("unknown", Outlook::Transient, "look at the pod's events"),
    ("untrusted", Outlook::Permanent, "trust the registry's certificate"),
    ("web-page", Outlook::Permanent, "it sends a web page"),
    ("wrong-bytes", Outlook::Transient, "its bytes are not its own"),
];

#[test]
fn every_failure_means_what_it_should() {
    let said = about_pulls();
    for (failure, outlook, words) in MEANINGS {
        let its: Vec<_> = said.iter().filter(|(name, _)| name == failure).collect();
        assert!(!its.is_empty(), "nobody tells of {failure}");
        for (_, Said { reason, message }) in its {
            let verdict = judge(reason, message);
            assert_eq!(verdict.outlook, outlook, "{failure}: {message}");
            assert!(verdict.advice.contains(words), "{failure}: {message}: {}", verdict.advice);
        }
    }
    let meant: BTreeSet<_> = MEANINGS.iter().map(|(failure, ..)| *failure).collect();
    let told: BTreeSet<_> = said.iter().map(|(failure, _)| failure.as_str()).collect();
    assert_eq!(told, meant);
}

/// Images, tags and registries may be called anything.
#[test]
fn names_decide_nothing() {
    let words = [
        "401",
        "403",
        "404",
        "429",
        "500",
        "denied",
        "eof",
        "forbidden",
        "no-such-host",
        "not-found",
        "toomanyrequests",
        "unauthorized",
        "x509",
    ];
    let mut n_renamed = 0;
    for (failure, Said { reason, message }) in about_pulls() {
        let verdict = judge(&reason, &message);
        for word in words {
            let renamed = renamed(&message, word);
            n_renamed += usize::from(renamed != message);
            assert_eq!(judge(&reason, &renamed), verdict, "{failure}: {renamed}");
        }
    }
    assert!(n_renamed > 500, "only {n_renamed} messages had a name in them");
}

/// The message about an image in a registry of this name, that has it for a tag as well.
fn renamed(message: &str, word: &str) -> String {
    let mut message = message.to_owned();
    for (name, other) in [
        ("a/b:1", format!("{word}/{word}:{word}")),
        ("one:1", format!("{word}:{word}")),
        ("one/manifests/1", format!("{word}/manifests/{word}")),
        ("q.io", format!("{word}.{word}.example")),
        ("faults.example", format!("{word}.example")),
    ] {
        message = message.replace(name, &other);
    }
    message
}

/// A text that no message needs would be a guess.
#[test]
fn no_rule_is_without_a_message() {
    let said = about_pulls();
    for (place, rule) in RULES.iter().enumerate() {
        for text in rule.texts {
            let is_decided_by_it = |message: &str| {
                let lower = message.to_ascii_lowercase();
                let mut said = rule.texts.iter().filter(|it| says(&lower, it));
                !RULES[..place].iter().any(|it| it.applies_to(message))
                    && said.next() == Some(text)
                    && said.next().is_none()
            };
            let is_said = said.iter().any(|(_, it)| is_decided_by_it(&it.message));
            assert!(is_said, "nobody says `{text}`");
        }
    }
    for (reason, _) in REASONS {
        assert!(said.iter().any(|(_, it)| it.reason == reason), "nobody gives {reason}");
    }
}

// === Pods that are refused ===

/// The words of the advice for each refusal.
const ADVICE: [(&str, &str); 10] = [
    ("denied", "let the policy pass pods"),
    ("no-account", "create it, or correct `puller.serviceAccountName"),
    ("no-constraint", "an account that may use a fitting one"),
    ("no-priority", "create it, or correct `puller.priorityClassName"),
    ("none-allowed", "raise the quota"),
    ("not-said", "give `puller.resources` what the quota asks for"),
    ("too-little", "what the namespace's LimitRange asks for"),
    ("unanswered", "mend the webhook"),
    ("unfit", "change the security contexts"),
    ("unwanted", "let the webhook pass pods"),
];

fn refusals() -> Vec<(String, String)> {
    let heard = captured(include_str!("refusals.json")).into_iter();
    let heard =
        heard.flat_map(|(name, said)| said.into_iter().map(move |it| (name.clone(), it.message)));
    heard.chain(PUBLISHED_REFUSALS.map(|(name, message)| (name.into(), message.into()))).collect()
}

/// Webhooks that answer, and OpenShift, are not to be had on the cluster of the tests.
const PUBLISHED_REFUSALS: [(&str, &str); 2] = [
    // `ToStatusErr` in `apiserver/pkg/admission/plugin/webhook/errors/statuserror.go`.
    (
        "unwanted",
        "Error creating: admission webhook \"validate.example\" denied the request: exceeded quota: 1",
    ),
    // https://github.com/openshift/instaslice-operator/pull/399
    (
        "no-constraint",
        "Error creating: pods \"x-\" is forbidden: unable to validate against any security context \
         constraint: [provider \"anyuid\": Forbidden: not usable by user or serviceaccount]",
    ),
];

#[test]
fn every_refusal_has_its_advice() {
    let refusals = refusals();
    for (name, words) in ADVICE {
        let its: Vec<_> = refusals.iter().filter(|(it, _)| it == name).collect();
        assert!(!its.is_empty(), "nobody was told of {name}");
        for (_, message) in its {
            let advice = refusal_advice(message);
            assert!(advice.contains(words), "{name}: {message}: {advice}");
        }
    }
    let known: BTreeSet<_> = ADVICE.iter().map(|(name, _)| *name).collect();
    assert_eq!(refusals.iter().map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>(), known);
}

#[test]
fn no_refusal_is_without_a_message() {
    for (text, advice) in REFUSALS {
        let is_said = |message: &str| {
            message.to_ascii_lowercase().contains(text) && refusal_advice(message) == advice
        };
        assert!(refusals().iter().any(|(_, it)| is_said(it)), "nobody says `{text}`");
    }
    assert_eq!(refusal_advice("something new"), "look at the events of the DaemonSet");
}
