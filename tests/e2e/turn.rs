//! Whose turn it is: tests run at the same time as long as none stands in another's way.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::cluster::cluster;

/// With whom a test may be on the cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Company {
    Alone,
    /// With tests that change nodes, each the ones it has reserved.
    Apart,
    /// With tests that want all nodes as they are.
    Shared,
}

/// A test's right to be on the cluster.
pub struct Turn;

/// Tests come in the order in which they asked, so that none waits for ever.
struct Order {
    n_asked: usize,
    n_let_in: usize,
    n_there: usize,
    company: Company,
}

static ORDER: Mutex<Order> =
    Mutex::new(Order { n_asked: 0, n_let_in: 0, n_there: 0, company: Company::Alone });
static MOVED: Condvar = Condvar::new();

impl Turn {
    pub fn take(company: Company) -> Self {
        let mut order = lock(&ORDER);
        let place = order.n_asked;
        order.n_asked += 1;
        let has_to_wait = |it: &mut Order| it.n_let_in != place || !it.lets_in(company);
        let mut order =
            MOVED.wait_while(order, has_to_wait).unwrap_or_else(PoisonError::into_inner);
        order.n_let_in += 1;
        order.n_there += 1;
        order.company = company;
        MOVED.notify_all();
        Self
    }
}

impl Order {
    fn lets_in(&self, company: Company) -> bool {
        self.n_there == 0 || (self.company == company && company != Company::Alone)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&ORDER).n_there -= 1;
        MOVED.notify_all();
    }
}

/// Nodes that no other test has reserved: to change them, or to pull slowly. The kubelet pulls one
/// image after the other, and two slow pulls on a node would be one that takes twice as long. Take
/// them before anything else, and keep them until the pods are gone: no pull is ever broken off.
pub struct ReservedNodes(Vec<String>);

static RESERVED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static FREED: Condvar = Condvar::new();

impl ReservedNodes {
    pub fn one() -> Self {
        Self::take(1)
    }

    pub fn two() -> Self {
        Self::take(2)
    }

    pub fn all() -> Self {
        Self::take(cluster().nodes.len())
    }

    fn take(n_nodes: usize) -> Self {
        let free = |reserved: &BTreeSet<String>| -> Vec<_> {
            cluster().nodes.iter().filter(|it| !reserved.contains(it.as_str())).cloned().collect()
        };
        let reserved = FREED.wait_while(lock(&RESERVED), |it| free(it).len() < n_nodes);
        let mut reserved = reserved.unwrap_or_else(PoisonError::into_inner);
        let mut nodes = free(&reserved);
        nodes.truncate(n_nodes);
        reserved.extend(nodes.iter().cloned());
        Self(nodes)
    }

    /// The name of the first one.
    pub fn name(&self) -> &str {
        &self.0[0]
    }

    pub fn names<const N: usize>(&self) -> [&str; N] {
        let names: Vec<_> = self.0.iter().map(String::as_str).collect();
        names.try_into().expect("so many were reserved")
    }
}

impl Drop for ReservedNodes {
    fn drop(&mut self) {
        lock(&RESERVED).retain(|it| !self.0.contains(it));
        FREED.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
