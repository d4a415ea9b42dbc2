//! Where the API server is and which files say who is who.
//!
//! Every error here is one line for the user: bad configuration, which no retry will mend.

use crate::words::plain;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The folder in which the kubelet puts the files of a pod's service account.
///
/// Source: <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How to get at an API server. Holds no secret, only the paths of files.
#[derive(Debug)]
pub struct Access {
    pub(super) server: Server,
    pub(super) ca: Option<PathBuf>,
    pub(super) token: Option<PathBuf>,
    namespace: Option<PathBuf>,
}

impl Access {
    /// From inside a pod: the address from its environment, the files from the folder
    /// ([`SERVICE_ACCOUNT`]), none of which is read yet.
    ///
    /// The name `kubernetes.default.svc` is no substitute for the address: it needs DNS, and
    /// not every distribution's certificate has it (k3s-io/k3s#3392).
    pub fn in_cluster(env: &dyn Fn(&str) -> Option<String>, folder: &Path) -> Result<Self, String> {
        let required = |name: &str| {
            env(name).filter(|it| !it.is_empty()).ok_or_else(|| {
                format!(
                    "`{name}` is not set, so this is no pod of a cluster; \
                     outside of one, name the API server with --server"
                )
            })
        };
        let host = required("KUBERNETES_SERVICE_HOST")?;
        let port = required("KUBERNETES_SERVICE_PORT")?;
        // The variable holds an IPv6 address without the brackets that a URL needs.
        let url = match host.contains(':') && !host.starts_with('[') {
            true => format!("https://[{host}]:{port}"),
            false => format!("https://{host}:{port}"),
        };
        let server = Server::parse(&url).map_err(|cause| {
            format!(
                "KUBERNETES_SERVICE_HOST `{host}` and KUBERNETES_SERVICE_PORT `{port}` are no \
                 address of an API server: {cause}"
            )
        })?;
        Ok(Self {
            server,
            ca: Some(folder.join("ca.crt")),
            token: Some(folder.join("token")),
            namespace: Some(folder.join("namespace")),
        })
    }

    /// From anywhere: the URL of an API server or of a `kubectl proxy`, which may end in a path.
    ///
    /// A token is not sent in clear text to another machine, and `https` is not used without a
    /// CA: there are no system roots in a scratch image, and a cluster's CA is not among them
    /// anyway.
    pub fn at(server: &str, ca: Option<&Path>, token: Option<&Path>) -> Result<Self, String> {
        let url = server;
        let server = Server::parse(url)
            .map_err(|cause| format!("--server `{}` is no address: {cause}", shown(url)))?;
        match (server.tls, ca, token) {
            (true, None, _) => Err(format!(
                "--server `{url}` needs --certificate-authority: name the file with the CA of \
                 the cluster, system roots are not used"
            )),
            (false, Some(ca), _) => Err(format!(
                "--certificate-authority `{}` has no use with --server `{url}`: use https or \
                 leave it out",
                ca.display()
            )),
            (false, None, Some(token)) if !server.is_loopback() => Err(format!(
                "--token-file `{}` would cross the network in clear text to --server `{url}`: \
                 use https or leave it out",
                token.display()
            )),
            _ => Ok(Self {
                server,
                ca: ca.map(Path::to_path_buf),
                token: token.map(Path::to_path_buf),
                namespace: None,
            }),
        }
    }

    /// The namespace of the pod that this runs in.
    pub fn namespace(&self) -> Result<String, String> {
        let Some(path) = &self.namespace else {
            return Err("no namespace is given; name one with --namespace".into());
        };
        let advice = "name the namespace with --namespace";
        match fs::read_to_string(path) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().into()),
            Ok(_) => Err(format!("namespace file `{}` is empty; {advice}", path.display())),
            Err(error) => Err(format!(
                "cannot read namespace file `{}`: {}; {advice}",
                path.display(),
                plain(&error)
            )),
        }
    }
}

/// The address of an API server, checked and in the parts that messages and requests need.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Server {
    /// Scheme, host, port and path, without a slash at the end.
    pub(super) url: String,
    /// Host and port, as in `10.96.0.1:443` or `[fd00::1]:443`.
    pub(super) authority: String,
    pub(super) tls: bool,
    pub(super) host: String,
}

impl Server {
    /// Reads a URL more strictly than a browser: what is odd in it is a mistake, and found
    /// before anything was created.
    fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) =
            url.split_once("://").ok_or("it does not start with https:// or http://")?;
        let (tls, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(format!("its scheme is `{scheme}`, not https or http")),
        };
        if let Some(c) =
            rest.chars().find(|it| !it.is_ascii_graphic() || "\\\"<>^`{|}".contains(*it))
        {
            return Err(format!("it has the character `{}` in it", c.escape_default()));
        }
        if rest.contains(['?', '#']) {
            return Err("it has a query or a fragment".into());
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err("it has a user in it; name a file with --token-file instead".into());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or("its `[` is never closed")?;
                host.parse::<Ipv6Addr>().map_err(|_| format!("`{host}` is no IPv6 address"))?;
                match (port, port.strip_prefix(':')) {
                    ("", _) => (format!("[{host}]"), None),
                    (_, Some(port)) => (format!("[{host}]"), Some(port)),
                    _ => return Err(format!("`{port}` stands where a port should")),
                }
            }
            None => match authority.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err("an IPv6 address needs brackets around it".into());
                }
                Some((host, port)) => (host.into(), Some(port)),
                None => (authority.into(), None),
            },
        };
        check_host(&host)?;
        let port = match port {
            None => default_port,
            Some(text) => text
                .parse::<u16>()
                .ok()
                .filter(|it| *it > 0 && text.starts_with(|c: char| c.is_ascii_digit()))
                .ok_or_else(|| format!("`{text}` is no port"))?,
        };
        let path = path.trim_end_matches('/');
        if path.split('/').skip(1).any(|it| matches!(it, "" | "." | "..")) {
            return Err(format!("its path `{path}` has an empty part or dots"));
        }
        let authority = format!("{host}:{port}");
        let scheme = if tls { "https" } else { "http" };
        Ok(Self { url: format!("{scheme}://{authority}{path}"), authority, tls, host })
    }

    /// Whether a request stays on this machine.
    fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<Ipv4Addr>().is_ok_and(|it| it.is_loopback())
            || host.parse::<Ipv6Addr>().is_ok_and(|it| it.is_loopback())
    }
}

fn check_host(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("it names no host".into());
    }
    if host.starts_with('[') {
        return Ok(());
    }
    let is_name = |it: &str| {
        !it.is_empty()
            && it.len() <= 63
            && it.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if !name.split('.').all(is_name) {
        return Err(format!("`{host}` is no host name"));
    }
    // Some resolvers read `10.1` as 10.0.0.1, and 010.0.0.1 as octal.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.chars().all(|it| it.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return Err(format!("`{host}` is no IPv4 address"));
    }
    Ok(())
}

/// A URL as it may be shown: without the password that somebody may have put in it.
fn shown(url: &str) -> String {
    let start = url.find("://").map_or(0, |it| it + 3);
    let (scheme, rest) = url.split_at(start);
    let shown = match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}…@{host}"),
        None => url.into(),
    };
    shown.chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(pairs: &[(&str, &str)]) -> Result<Access, String> {
        let env = |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_string())
        };
        Access::in_cluster(&env, Path::new("/sa"))
    }

    #[test]
    fn a_pod_finds_its_api_server_in_the_environment() {
        for (host, port, url) in [
            ("10.96.0.1", "443", "https://10.96.0.1:443"),
            ("fd00::1", "443", "https://[fd00::1]:443"),
            ("[fd00::1]", "6443", "https://[fd00::1]:6443"),
            ("kubernetes.example", "443", "https://kubernetes.example:443"),
        ] {
            let access =
                pod(&[("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)])
                    .unwrap();
            assert_eq!(access.server.url, url);
            assert_eq!(access.ca.unwrap(), Path::new("/sa/ca.crt"));
            assert_eq!(access.token.unwrap(), Path::new("/sa/token"));
            assert_eq!(access.namespace.unwrap(), Path::new("/sa/namespace"));
        }
    }

    #[test]
    fn both_variables_are_required() {
        for pairs in [
            &[][..],
            &[("KUBERNETES_SERVICE_PORT", "443")],
            &[("KUBERNETES_SERVICE_HOST", ""), ("KUBERNETES_SERVICE_PORT", "443")],
        ] {
            let error = pod(pairs).unwrap_err();
            assert!(error.starts_with("`KUBERNETES_SERVICE_HOST` is not set"), "{error}");
            assert!(error.contains("--server"), "{error}");
        }
        let error = pod(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1")]).unwrap_err();
        assert!(error.starts_with("`KUBERNETES_SERVICE_PORT` is not set"), "{error}");
        let error = pod(&[
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT", "tcp://10.96.0.1:443"),
        ])
        .unwrap_err();
        assert!(error.contains("no address of an API server"), "{error}");
    }

    #[test]
    fn urls_are_read_strictly() {
        for (url, read, authority) in [
            ("https://10.0.0.1:6443", "https://10.0.0.1:6443", "10.0.0.1:6443"),
            ("HTTPS://example.org/", "https://example.org:443", "example.org:443"),
            ("http://127.0.0.1:8001", "http://127.0.0.1:8001", "127.0.0.1:8001"),
            ("http://localhost", "http://localhost:80", "localhost:80"),
            ("https://[::1]:6443/", "https://[::1]:6443", "[::1]:6443"),
            ("https://[::1]", "https://[::1]:443", "[::1]:443"),
            (
                "https://rancher.example/k8s/clusters/c-1/",
                "https://rancher.example:443/k8s/clusters/c-1",
                "rancher.example:443",
            ),
        ] {
            let server = Server::parse(url).unwrap();
            assert_eq!((server.url.as_str(), server.authority.as_str()), (read, authority));
        }
        for (url, cause) in [
            ("", "does not start with"),
            ("10.0.0.1:6443", "does not start with"),
            ("ftp://10.0.0.1", "scheme is `ftp`"),
            ("https://", "no host"),
            ("https://:6443", "no host"),
            ("https:///path", "no host"),
            ("https://user:secret@10.0.0.1", "a user"),
            ("https://10.0.0.1?x=y", "a query"),
            ("https://10.0.0.1#x", "a query or a fragment"),
            ("https://10.0.0.1:", "`` is no port"),
            ("https://10.0.0.1:0", "`0` is no port"),
            ("https://10.0.0.1:+443", "`+443` is no port"),
            ("https://10.0.0.1:65536", "`65536` is no port"),
            ("https://10.0.0.1:http", "`http` is no port"),
            ("https://::1", "needs brackets"),
            ("https://[::1", "never closed"),
            ("https://[::1]443", "where a port should"),
            ("https://[fe80::1%eth0]", "no IPv6 address"),
            ("https://10.1", "no IPv4 address"),
            ("https://300.0.0.1", "no IPv4 address"),
            ("https://ex ample", "character ` `"),
            ("https://ex\nample", "character `\\n`"),
            ("https://exämple", "character"),
            ("https://a..b", "no host name"),
            ("https://a/b//c", "an empty part"),
            ("https://a/../b", "dots"),
        ] {
            let error = Server::parse(url).unwrap_err();
            assert!(error.contains(cause), "`{url}`: {error}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_not_repeated() {
        let error = Access::at("https://user:secret@10.0.0.1", None, None).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
        assert!(error.contains("…@10.0.0.1"), "{error}");
    }

    #[test]
    fn https_needs_a_ca_and_a_token_stays_off_the_open_network() {
        let file = Some(Path::new("/file"));
        assert!(Access::at("https://10.0.0.1", file, file).is_ok());
        assert!(Access::at("https://10.0.0.1", file, None).is_ok());
        assert!(Access::at("http://10.0.0.1", None, None).is_ok());
        for url in ["http://127.0.0.1:8001", "http://[::1]:8001", "http://LocalHost:8001"] {
            assert!(Access::at(url, None, file).is_ok(), "{url}");
        }
        let error = Access::at("https://10.0.0.1", None, file).unwrap_err();
        assert!(error.contains("--certificate-authority"), "{error}");
        let error = Access::at("http://127.0.0.1", file, None).unwrap_err();
        assert!(error.contains("has no use"), "{error}");
        for url in ["http://10.0.0.1", "http://127.0.0.1.example", "http://localhost.example"] {
            let error = Access::at(url, None, file).unwrap_err();
            assert!(error.contains("in clear text"), "{url}: {error}");
        }
    }

    #[test]
    fn outside_a_cluster_the_namespace_must_be_named() {
        let access = Access::at("http://127.0.0.1:8001", None, None).unwrap();
        assert!(access.namespace().unwrap_err().contains("--namespace"));
    }
}
