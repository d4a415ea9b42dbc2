//! What the kubelet's words about a failed pull mean: whether another try can help, and what a
//! reader should do.
//!
//! Messages come from the container runtime through the kubelet and have no codes worth the
//! name, so they are told apart by their text, in an order that matters: name servers refuse
//! connections as registries do. Every text here is one that somebody was really told, and
//! `tests/verdicts` has them all.

/// Whether the kubelet's own retries may mend a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outlook {
    /// The same answer will come again until somebody changes something.
    Permanent,
    /// Worth waiting for.
    Transient,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// Whether waiting can help.
    pub outlook: Outlook,
    /// What to do, as the end of a sentence.
    pub advice: &'static str,
}

/// What messages with one of these texts mean.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// In lower case; a [`GAP`] stands for anything. Each has a blank in it, so that no image, tag
    /// or registry can be named like one: messages are full of their names.
    pub texts: &'static [&'static str],
    /// What they mean.
    pub verdict: Verdict,
}

/// What to do where a registry lets nobody in; it seldom says whether the image is there at all.
pub const CHECK_ACCESS: &str = "check the image name and the pull secrets";

/// What to do where a registry knows no such image; some say so to whoever is not logged in.
pub const CHECK_NAME: &str = "check the image name and the tag";

/// Kubelet reasons that decide without their message.
///
/// Source: `pkg/kubelet/images/types.go`.
pub const REASONS: [(&str, Verdict); 3] = [
    ("ErrImageNeverPull", permanent("load the image onto the node or change its pull policy")),
    ("InvalidImageName", permanent("correct the image name")),
    (
        "SignatureValidationFailed",
        permanent("sign the image, or change the signature policy of the nodes"),
    ),
];

/// Texts of the kubelet, of containerd and of CRI-O (containers/image), in the order of the test.
pub const RULES: [Rule; 18] = [
    Rule {
        texts: &[
            "no match for platform in manifest",
            "no image found in image index for architecture",
            "no image found in manifest list for architecture",
        ],
        verdict: permanent("build the image for the nodes' platform, or keep it off these nodes"),
    },
    Rule {
        texts: &["429 too many requests", ": toomanyrequests: ", "too many requests to registry"],
        verdict: transient("the registry limits pulls: log in with a pull secret or use a mirror"),
    },
    Rule {
        texts: &[
            "401 unauthorized",
            "403 forbidden",
            ": unauthorized: ",
            "access to the resource is denied",
            "invalid status code from registry 401",
            "invalid status code from registry 403",
            "pull access denied",
        ],
        verdict: permanent(CHECK_ACCESS),
    },
    Rule { texts: &["no space left on device"], verdict: permanent("free disk space on the node") },
    Rule {
        texts: &["server gave http response to https client"],
        verdict: permanent("tell the nodes' runtime that the registry has no TLS, or give it TLS"),
    },
    Rule {
        texts: &[" x509: "],
        verdict: permanent("make the nodes trust the registry's certificate"),
    },
    Rule { texts: &["couldn't parse image name"], verdict: permanent("correct the image name") },
    Rule {
        texts: &["short name mode is enforcing"],
        verdict: permanent("write the registry in front of the image name: nodes know several"),
    },
    Rule {
        texts: &["source image rejected: "],
        verdict: permanent("sign the image, or change the signature policy of the nodes"),
    },
    Rule {
        texts: &["unexpected media type text/html"],
        verdict: permanent("see what answers in the registry's place: it sends a web page"),
    },
    Rule {
        texts: &["unexpected commit digest"],
        verdict: transient("push the image anew, or clear the mirror: its bytes are not its own"),
    },
    Rule {
        texts: &[
            "500 internal server error",
            "502 bad gateway",
            "503 service unavailable",
            "504 gateway timeout",
            "invalid status code from registry 5",
        ],
        verdict: transient("wait until the registry is well again, or use a mirror"),
    },
    Rule {
        texts: &["dial tcp: lookup "],
        verdict: transient("check the registry's name, and the name servers of the nodes"),
    },
    Rule {
        texts: &["context canceled"],
        verdict: transient("check what lies between nodes and registry: nothing came for too long"),
    },
    Rule {
        texts: &["pull qps exceeded"],
        verdict: transient("wait, or raise `registryPullQPS` of the kubelet"),
    },
    Rule {
        texts: &[
            "connection refused",
            "connection reset by peer",
            "context deadline exceeded",
            "i/o timeout",
            "network is unreachable",
            "no route to host",
            "tls handshake timeout",
            "unexpected eof",
            // No name stands behind the quotation mark after a request.
            "failed to do request: …\": eof",
        ],
        verdict: transient("check that the nodes reach the registry"),
    },
    Rule {
        texts: &["could not fetch content descriptor …: not found"],
        verdict: permanent("push the image anew: the registry lacks parts of it"),
    },
    Rule {
        texts: &["failed to resolve …: not found", "manifest unknown", "name unknown"],
        verdict: permanent(CHECK_NAME),
    },
];

/// Stands for anything in a text.
pub const GAP: char = '…';

/// Texts of what refuses a pod before it is made, in lower case, with what to do. What webhooks and
/// policies say is anybody's, so they come first.
pub const REFUSALS: [(&str, &str); 10] = [
    (WEBHOOK_IS_DOWN, "mend the webhook, or let it pass over the namespace"),
    ("admission webhook \"", "let the webhook pass pods that are labelled `prepull.dev/run`"),
    ("validatingadmissionpolicy '", "let the policy pass pods that are labelled `prepull.dev/run`"),
    ("exceeded quota: ", "raise the quota, or lower `puller.resources`"),
    ("failed quota: ", "give `puller.resources` what the quota asks for"),
    (" usage per ", "give `puller.resources` what the namespace's LimitRange asks for"),
    (
        "violates podsecurity \"",
        "change the security contexts of the puller, or the namespace's level",
    ),
    (
        "any security context constraint",
        "let `puller.serviceAccountName` name an account that may use a fitting one",
    ),
    ("error looking up service account ", "create it, or correct `puller.serviceAccountName`"),
    ("no priorityclass with name ", "create it, or correct `puller.priorityClassName`"),
];

/// How the API server says that an admission webhook did not answer.
///
/// Source: `ErrCallingWebhook` in `apiserver/pkg/util/webhook`.
pub const WEBHOOK_IS_DOWN: &str = "failed calling webhook";

/// What to do about a pod that may not be made.
pub fn refusal_advice(message: &str) -> &'static str {
    let message = message.to_ascii_lowercase();
    REFUSALS
        .iter()
        .find(|(text, _)| message.contains(text))
        .map_or("look at the events of the DaemonSet", |(_, advice)| advice)
}

/// Judges a failed pull by the kubelet's reason and message.
pub fn judge(reason: &str, message: &str) -> Verdict {
    if let Some((_, verdict)) = REASONS.iter().find(|(it, _)| *it == reason) {
        return *verdict;
    }
    RULES
        .iter()
        .find(|it| it.applies_to(message))
        .map_or(transient("look at the pod's events and the kubelet's log"), |it| it.verdict)
}

impl Rule {
    /// Whether one of the texts is in the message, in any case of letters.
    pub fn applies_to(&self, message: &str) -> bool {
        let message = message.to_ascii_lowercase();
        self.texts.iter().any(|it| says(&message, it))
    }
}

/// Whether the parts of a text stand in a message in lower case, one behind the other.
pub fn says(message: &str, text: &str) -> bool {
    let behind = |rest: &mut &str, part: &str| {
        let (_, behind) = rest.split_once(part)?;
        *rest = behind;
        Some(())
    };
    let mut rest = message;
    text.split(GAP).all(|part| behind(&mut rest, part).is_some())
}

const fn permanent(advice: &'static str) -> Verdict {
    Verdict { outlook: Outlook::Permanent, advice }
}

const fn transient(advice: &'static str) -> Verdict {
    Verdict { outlook: Outlook::Transient, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_stands_for_anything() {
        for (text, says_it) in [
            ("b", true),
            ("a…c", true),
            ("a…b…c", true),
            ("c…a", false),
            ("a…a", false),
            ("a…d", false),
        ] {
            assert_eq!(says("abc", text), says_it, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_may_pass() {
        assert_eq!(judge("Failed", "something new").outlook, Outlook::Transient);
    }
}
