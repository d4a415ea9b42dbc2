//! A number of nodes, or a percentage of them: `3` or `25%`.

use std::fmt;

/// How many nodes of a total, as Kubernetes writes `maxUnavailable`.
///
/// Source: <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/daemon-set-v1/>,
/// `updateStrategy.rollingUpdate.maxUnavailable`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Share {
    /// So many nodes.
    Nodes(usize),
    /// From 0 to 100.
    Percent(u8),
}

impl Share {
    /// Reads `3` or `25%`; the error says how it is written.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "write it like 3 or 25%";
        let is_number = |it: &str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit());
        match text.strip_suffix('%') {
            Some(percent) if is_number(percent) => match percent.parse() {
                Ok(percent @ 0..=100) => Ok(Self::Percent(percent)),
                _ => Err("no more than 100%"),
            },
            None if is_number(text) => text.parse().map(Self::Nodes).map_err(|_| FORM),
            _ => Err(FORM),
        }
    }

    /// The number of nodes; a part of a node counts as a whole one, as in Kubernetes.
    pub fn of(self, n_nodes: usize) -> usize {
        match self {
            Self::Nodes(n) => n,
            Self::Percent(percent) => n_nodes.saturating_mul(percent.into()).div_ceil(100),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(n) => n.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_written_alike() {
        for (text, share) in [
            ("0", Share::Nodes(0)),
            ("12", Share::Nodes(12)),
            ("0%", Share::Percent(0)),
            ("100%", Share::Percent(100)),
        ] {
            assert_eq!(Share::parse(text), Ok(share));
            assert_eq!(share.to_string(), text);
        }
        for text in
            ["", "%", "-1", "+1", "1.5", "10 %", "101%", "300%", "1e3", "x", "99999999999999999999"]
        {
            assert!(Share::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_part_of_a_node_is_a_node() {
        for (share, n_nodes, n) in
            [("10%", 5, 1), ("25%", 8, 2), ("25%", 9, 3), ("0%", 9, 0), ("7", 3, 7)]
        {
            assert_eq!(Share::parse(share).unwrap().of(n_nodes), n, "{share} of {n_nodes}");
        }
    }
}
