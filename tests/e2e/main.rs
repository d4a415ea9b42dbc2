//! The whole thing on a real cluster: real kubelets, real pulls, a real `helm install`.
//!
//! `hack/cluster up` starts the cluster; then `cargo test --features e2e --test e2e`. Most of a
//! test's time is waiting, so that more threads than processors pay: `-- --test-threads 4`.
//!
//! - [`command`] runs programs, [`cluster`] asks the cluster and its nodes, [`audit`] reads who
//!   asked the API server for what.
//! - [`scenario`] is what a test has for itself, a namespace, a release and images of its own,
//!   and takes away again; [`binary`] runs ours outside the cluster, [`gate`] stands between that
//!   and the API server. [`turn`] says which tests may run at the same time.
//! - Every other module is a topic. Its tests run with helm 3 and with helm 4, or with no helm.
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

mod apart;
mod api_outage;
mod audit;
mod bad_image;
mod binary;
mod cluster;
mod cold_install;
mod command;
mod fast_path;
mod gate;
mod groups;
mod helm_timeout;
mod image_forms;
mod image_names;
mod killed;
mod kills;
mod partly_there;
mod policies;
mod private_images;
mod pull_policies;
mod puller_changed;
mod refused_pods;
mod registry_faults;
mod restricted;
mod rights;
mod scenario;
#[path = "../docs/schema.rs"]
mod schema;
#[path = "../run/model/steps.rs"]
mod steps;
mod traces;
mod turn;
mod without_cluster_rights;
mod words;
mod workstation;
