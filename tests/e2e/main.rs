//! The whole thing on a real cluster: real kubelets, real pulls, a real `helm install`.
//!
//! `hack/cluster up` starts the cluster; then `cargo test --features e2e --test e2e`. Most of a
//! test's time is waiting, so that more threads than processors pay: `-- --test-threads 4`.
//!
//! - [`command`] runs programs, [`cluster`] asks the cluster and its nodes, [`audit`] reads who
//!   asked the API server for what.
//! - [`scenario`] is what a test has for itself, a namespace, a release and images of its own,
//!   and takes away again.
//! - Every other module is a topic. Each of its tests runs with helm 3 and with helm 4.
//!
//! The names of the modules are an order as well: a test that wants the cluster for itself comes
//! first, so that no others have to end for it, and then those that wait longest.

/// Makes of each function a test with helm 3 and one with helm 4.
macro_rules! with_helm_3_and_4 {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::scenario::Helm;

            #[test]
            fn helm3() {
                super::$name(Helm::Three);
            }

            #[test]
            fn helm4() {
                super::$name(Helm::Four);
            }
        }
    )+};
}

mod audit;
mod avoided_nodes;
mod bad_image;
mod cluster;
mod cold_install;
mod command;
mod fast_path;
mod helm_timeout;
mod image_forms;
mod killed;
mod partly_there;
mod restricted;
mod scenario;
mod workstation;
