//! What the kubelet's words about a failed pull mean: whether another try can help, and what a
//! reader should do.
//!
//! Messages come from the container runtime through the kubelet and have no codes worth the
//! name, so they are told apart by their text, in an order that matters: containerd says "not
//! found" of an image for another platform too.

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
    pub outlook: Outlook,
    /// What to do, as the end of a sentence.
    pub advice: &'static str,
}

/// What to do where a registry lets nobody in; it seldom says whether the image is there at all.
pub const CHECK_ACCESS: &str = "check the image name and the pull secrets";

/// Kubelet reasons that decide without their message.
///
/// Source: `pkg/kubelet/images/types.go`.
const REASONS: [(&str, Verdict); 3] = [
    ("ErrImageNeverPull", permanent("load the image onto the node or change its pull policy")),
    ("InvalidImageName", permanent("correct the image name")),
    (
        "SignatureValidationFailed",
        permanent("sign the image, or change the signature policy of the nodes"),
    ),
];

/// Texts of containerd and CRI-O (containers/image), in lower case, in the order of the test.
const TEXTS: [(&[&str], Verdict); 8] = [
    (
        &[
            "no match for platform",
            "no image found in image index",
            "no image found in manifest list",
        ],
        permanent("build the image for the nodes' platform, or keep it off these nodes"),
    ),
    (
        &["toomanyrequests", "too many requests", "429"],
        transient("the registry limits pulls: log in with a pull secret or use a mirror"),
    ),
    (
        &[
            "pull access denied",
            "401 unauthorized",
            "403 forbidden",
            "failed to authorize",
            "failed to fetch anonymous token",
            "failed to fetch oauth token",
            "unable to retrieve auth token",
            "access to the resource is denied",
            "unauthorized:",
        ],
        permanent(CHECK_ACCESS),
    ),
    (&["no space left on device"], permanent("free disk space on the node")),
    (
        &["x509:", "server gave http response to https client"],
        permanent("make the nodes trust the registry's certificate"),
    ),
    (
        &["invalid reference format", "couldn't parse image name"],
        permanent("correct the image name"),
    ),
    (
        &[
            "code = canceled",
            "connection refused",
            "connection reset",
            "context canceled",
            "context deadline exceeded",
            "i/o timeout",
            "no route to host",
            "no such host",
            "pull qps exceeded",
            "server misbehaving",
            "tls handshake timeout",
            "unexpected eof",
        ],
        transient("check that the nodes reach the registry"),
    ),
    (
        &["code = notfound", "manifest unknown", "not found"],
        permanent("check the image name and the tag"),
    ),
];

/// Texts of what refuses a pod before it is made, in lower case, with what to do.
const REFUSALS: [(&str, &str); 7] = [
    ("exceeded quota", "raise the quota, or lower `puller.resources`"),
    (
        "violates podsecurity",
        "change the security contexts of the puller, or the namespace's level",
    ),
    (
        "security context constraint",
        "let `puller.serviceAccountName` name an account that may use a fitting one",
    ),
    ("error looking up service account", "create it, or correct `puller.serviceAccountName`"),
    ("no priorityclass", "create it, or correct `puller.priorityClassName`"),
    ("admission webhook", "let the webhook pass pods that are labelled `prepull.dev/run`"),
    ("validatingadmissionpolicy", "let the policy pass pods that are labelled `prepull.dev/run`"),
];

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
    let message = message.to_ascii_lowercase();
    TEXTS
        .iter()
        .find(|(texts, _)| texts.iter().any(|it| message.contains(it)))
        .map_or(transient("look at the pod's events and the kubelet's log"), |(_, it)| *it)
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
    fn the_order_of_the_texts_matters() {
        use Outlook::{Permanent, Transient};
        for (reason, message, outlook, advice) in [
            (
                "Failed",
                "rpc error: code = NotFound desc = failed to pull and unpack image \"x\": no match \
                 for platform in manifest: not found",
                Permanent,
                "platform",
            ),
            (
                "ErrImagePull",
                "rpc error: code = NotFound desc = failed to pull and unpack image \"q.io/a:1\": \
                 failed to resolve image: q.io/a:1: not found",
                Permanent,
                "tag",
            ),
            ("Failed", "unexpected status: 429 Too Many Requests", Transient, "limits"),
            ("Failed", "pull access denied, repository does not exist", Permanent, "secrets"),
            ("Failed", "unexpected status code 401 Unauthorized", Permanent, "secrets"),
            (
                "Failed",
                "tls: failed to verify certificate: x509: unknown authority",
                Permanent,
                "trust",
            ),
            ("Failed", "write /x: no space left on device", Permanent, "disk"),
            ("Failed", "dial tcp: lookup q.io on 10.0.0.1:53: no such host", Transient, "reach"),
            ("Failed", "rpc error: code = Canceled desc = context canceled", Transient, "reach"),
            ("Failed", "pull QPS exceeded", Transient, "reach"),
            ("Failed", "something new", Transient, "events"),
            ("InvalidImageName", "", Permanent, "name"),
            ("ErrImageNeverPull", "not present with pull policy of Never", Permanent, "load"),
            ("SignatureValidationFailed", "i/o timeout", Permanent, "sign"),
        ] {
            let verdict = judge(reason, message);
            assert_eq!(verdict.outlook, outlook, "{reason}: {message}");
            assert!(verdict.advice.contains(advice), "{message}: {}", verdict.advice);
        }
    }
}
