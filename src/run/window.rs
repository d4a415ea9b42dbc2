//! The window over the nodes: so many may be unfinished at a time.
//!
//! Nodes wait in a queue. One that is let in stays until it has everything, or until it is stuck
//! while others wait: then it goes to the end of the queue, so that a few broken nodes do not
//! stop the rest.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

/// A node that shows no progress for so long, and that nothing is being pulled on as far as is
/// known, is stuck ...
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// ... and so is one that shows no progress for so long, whatever is known: the status of a pod
/// says nothing during a pull, and containerd gives up one without progress after 5 minutes
/// (`image_pull_progress_timeout`).
const SILENT_FOR: Duration = Duration::from_secs(600);

/// Who is let in.
#[derive(Debug)]
pub struct Window {
    size: usize,
    at_work: BTreeMap<String, Work>,
    queue: VecDeque<String>,
    /// Those that have everything, the last one last.
    finished: Vec<String>,
}

/// What is known of an unfinished node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Images that it lacks, over all groups; it falls with every step of progress.
    pub n_lacking: usize,
    pub pulling: Pulling,
}

/// Whether a node may be pulling right now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pulling {
    No,
    Perhaps,
}

#[derive(Debug)]
struct Work {
    n_lacking: usize,
    /// When it was let in or last made progress.
    since: Duration,
}

impl Window {
    /// A window of this size; one of zero would let nobody in.
    pub fn new(size: usize) -> Self {
        Self {
            size: size.max(1),
            at_work: BTreeMap::new(),
            queue: VecDeque::new(),
            finished: vec![],
        }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Puts these into the queue before anybody else is in it: an earlier try let them in, so that
    /// they may be unfinished already.
    pub fn prefer(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if !self.queue.contains(&name) {
                self.queue.push_back(name);
            }
        }
    }

    /// Takes in who is unfinished. New ones go to the end of the queue; those at work that are
    /// not among them have everything, or are no targets any more.
    pub fn observe(&mut self, unfinished: &BTreeMap<&str, Standing>, now: Duration) {
        self.at_work.retain(|name, work| {
            let Some(standing) = unfinished.get(name.as_str()) else {
                self.finished.push(name.clone());
                return false;
            };
            if standing.n_lacking < work.n_lacking {
                work.since = now;
            }
            work.n_lacking = standing.n_lacking;
            true
        });
        self.finished.retain(|it| !unfinished.contains_key(it.as_str()));
        self.queue.retain(|it| unfinished.contains_key(it.as_str()));
        let waiting: HashSet<_> = self.queue.iter().map(String::as_str).collect();
        let is_new = |it: &&&str| !self.at_work.contains_key(**it) && !waiting.contains(**it);
        let new: Vec<_> = unfinished.keys().filter(is_new).map(|it| (*it).to_owned()).collect();
        self.queue.extend(new);
    }

    /// Sends those that are stuck to the end of the queue, as far as others wait for their
    /// places, and says how many.
    pub fn release_stuck(&mut self, unfinished: &BTreeMap<&str, Standing>, now: Duration) -> usize {
        let is_stuck = |(name, work): &(&String, &Work)| {
            let pulling = unfinished.get(name.as_str()).map(|it| it.pulling);
            let patience = match pulling {
                Some(Pulling::Perhaps) => SILENT_FOR,
                _ => STUCK_AFTER,
            };
            now >= work.since + patience
        };
        let stuck = self.at_work.iter().filter(is_stuck).map(|(name, _)| name.clone());
        let stuck: Vec<_> = stuck.take(self.queue.len()).collect();
        for name in &stuck {
            self.at_work.remove(name);
            self.queue.push_back(name.clone());
        }
        stuck.len()
    }

    /// Lets the next ones in.
    pub fn admit(&mut self, unfinished: &BTreeMap<&str, Standing>, now: Duration) {
        while self.at_work.len() < self.size
            && let Some(name) = self.queue.pop_front()
        {
            let n_lacking = unfinished.get(name.as_str()).map_or(0, |it| it.n_lacking);
            self.at_work.insert(name, Work { n_lacking, since: now });
        }
    }

    pub fn is_at_work(&self, name: &str) -> bool {
        self.at_work.contains_key(name)
    }

    /// Those at work, and after them so many others that finished last, that there are at most
    /// `most`: a pod that is left where it is keeps its images from being collected.
    pub fn names(&self, most: usize) -> impl Iterator<Item = &str> {
        let at_work = self.at_work.keys();
        at_work.chain(self.finished.iter().rev()).take(most).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 500;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn standings<'a>(names: &[(&'a str, usize)], pulling: Pulling) -> BTreeMap<&'a str, Standing> {
        names.iter().map(|&(name, n_lacking)| (name, Standing { n_lacking, pulling })).collect()
    }

    fn at_work(window: &Window) -> Vec<&str> {
        window.at_work.keys().map(String::as_str).collect()
    }

    /// One round of a run.
    fn turn(window: &mut Window, unfinished: &BTreeMap<&str, Standing>, now: u64) {
        window.observe(unfinished, seconds(now));
        window.release_stuck(unfinished, seconds(now));
        window.admit(unfinished, seconds(now));
    }

    #[test]
    fn nodes_are_let_in_as_others_finish() {
        let mut window = Window::new(2);
        let all = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
        turn(&mut window, &standings(&all, Pulling::Perhaps), 0);
        assert_eq!(at_work(&window), ["a", "b"]);
        turn(&mut window, &standings(&all, Pulling::Perhaps), 10);
        assert_eq!(at_work(&window), ["a", "b"]);
        turn(&mut window, &standings(&[all[0], all[2], all[3]], Pulling::Perhaps), 20);
        assert_eq!(at_work(&window), ["a", "c"]);
        assert_eq!(window.names(MOST).collect::<Vec<_>>(), ["a", "c", "b"]);
        assert_eq!(window.names(2).collect::<Vec<_>>(), ["a", "c"]);
        // A node that is no target any more takes no place, in the queue neither.
        turn(&mut window, &standings(&[all[0], ("e", 1)], Pulling::Perhaps), 30);
        assert_eq!(at_work(&window), ["a", "e"]);
    }

    #[test]
    fn a_stuck_node_makes_room_for_one_that_waits() {
        let all = [("a", 2), ("b", 1), ("c", 1)];
        for (pulling, patience) in [(Pulling::No, 60), (Pulling::Perhaps, 600)] {
            let mut window = Window::new(1);
            turn(&mut window, &standings(&all, pulling), 0);
            turn(&mut window, &standings(&all, pulling), patience - 1);
            assert_eq!(at_work(&window), ["a"]);
            turn(&mut window, &standings(&all, pulling), patience);
            assert_eq!(at_work(&window), ["b"]);
            // It comes back in its turn.
            turn(&mut window, &standings(&all[..1], pulling), patience + 1);
            assert_eq!(at_work(&window), ["a"]);
            // With nobody waiting it stays.
            turn(&mut window, &standings(&all[..1], pulling), 10 * patience);
            assert_eq!(at_work(&window), ["a"]);
        }
    }

    #[test]
    fn progress_is_patience() {
        let mut window = Window::new(1);
        let of = |n| standings(&[("a", n), ("b", 1)], Pulling::No);
        turn(&mut window, &of(3), 0);
        turn(&mut window, &of(2), 50);
        turn(&mut window, &of(2), 109);
        assert_eq!(at_work(&window), ["a"]);
        turn(&mut window, &of(2), 110);
        assert_eq!(at_work(&window), ["b"]);
    }

    #[test]
    fn a_finished_node_that_lacks_something_again_waits_its_turn() {
        let mut window = Window::new(1);
        turn(&mut window, &standings(&[("a", 1), ("b", 1)], Pulling::Perhaps), 0);
        turn(&mut window, &standings(&[("b", 1)], Pulling::Perhaps), 1);
        turn(&mut window, &standings(&[("a", 1), ("b", 1)], Pulling::Perhaps), 2);
        assert_eq!(at_work(&window), ["b"]);
        assert_eq!(window.names(MOST).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_window_of_nothing_lets_one_in() {
        let mut window = Window::new(0);
        turn(&mut window, &standings(&[("a", 1), ("b", 1)], Pulling::Perhaps), 0);
        assert_eq!(at_work(&window), ["a"]);
    }
}
