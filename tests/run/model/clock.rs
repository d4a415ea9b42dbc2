//! The clock of a process in a world.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use prepull::run::{Clock, Signal};

use super::Shared;

/// How long a signal may go unnoticed, as in a real process.
const SLICE: Duration = Duration::from_millis(50);

/// The clock of one process in a world.
pub struct ModelClock {
    world: Shared,
    started: Duration,
}

impl ModelClock {
    pub fn start(world: &Shared) -> Self {
        let started = world.borrow().now;
        Self { world: Rc::clone(world), started }
    }
}

impl Clock for ModelClock {
    fn elapsed(&self) -> Duration {
        self.world.borrow().now - self.started
    }

    /// A machine's clock may be wrong; the API server's counts.
    fn wall(&self) -> SystemTime {
        self.world.borrow().wall() + Duration::from_secs(1_000_000)
    }

    fn sleep(&mut self, duration: Duration, known: Signal) {
        let mut world = self.world.borrow_mut();
        let until = world.now + duration;
        let start = world.now;
        while world.now < until && world.signal == known {
            // Where nothing is due there is nothing to notice.
            let due = world.next_due().map_or(until, |it| it.clamp(world.now, until));
            let n_slices = (due - start).as_nanos() / SLICE.as_nanos() + 1;
            world.advance_to(until.min(start + SLICE * n_slices as u32));
        }
    }

    fn signal(&self) -> Signal {
        self.world.borrow().signal
    }
}
