//! The machine's clock and the process's signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use std::{io, thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::report::Exit;
use crate::run::{Clock, Signal};

/// How long a signal may go unnoticed during a sleep.
const SLICE: Duration = Duration::from_millis(50);

/// The time since a start, and the signals since then.
pub struct SystemClock {
    started: Instant,
    stop: Arc<AtomicBool>,
}

impl SystemClock {
    /// Starts counting, and takes SIGTERM and SIGINT for a wish to stop in good order. A second
    /// one ends the process at once.
    pub fn start() -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the shutdown looks at what the signal *before* has set.
            let code = Exit::Stopped as i32;
            flag::register_conditional_shutdown(signal, code, Arc::clone(&stop))?;
            flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(Self { started: Instant::now(), stop })
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&mut self, duration: Duration, known: Signal) {
        let until = Instant::now() + duration;
        while self.signal() == known {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(SLICE));
        }
    }

    fn signal(&self) -> Signal {
        match self.stop.load(Ordering::Relaxed) {
            false => Signal::None,
            true => Signal::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn clock(is_stopped: bool) -> SystemClock {
        SystemClock { started: Instant::now(), stop: Arc::new(is_stopped.into()) }
    }

    /// It came between a look at the signals and the pause.
    #[test]
    fn a_signal_that_is_not_known_yet_ends_a_pause() {
        let mut clock = clock(true);
        clock.sleep(LONG, Signal::None);
        assert!(clock.elapsed() < LONG, "{:?}", clock.elapsed());
    }

    #[test]
    fn a_signal_that_is_known_does_not_end_a_pause() {
        for (is_stopped, known) in [(true, Signal::Stop), (false, Signal::None)] {
            let mut clock = clock(is_stopped);
            clock.sleep(2 * SLICE, known);
            assert!(clock.elapsed() >= 2 * SLICE, "{:?}", clock.elapsed());
        }
    }
}
