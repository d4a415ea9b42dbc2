//! What runs inside the puller's pods: `install` and `hold`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::{env, fs, thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Copies this binary to `path`. `fs::copy` keeps the permission bits, so that any user may run
/// the copy: OpenShift gives every namespace a user of its own.
pub fn install(path: &Path) -> io::Result<()> {
    fs::copy(env::current_exe()?, path).map(|_| ())
}

/// Sleeps until SIGTERM or SIGINT, which end it with exit code 0.
///
/// As the first process of its container it would not get a signal without a handler: the kernel
/// ignores those for the first process of a PID namespace.
pub fn hold() -> io::Result<()> {
    let always = Arc::new(AtomicBool::new(true));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 0, Arc::clone(&always))?;
    }
    println!("the image is on this node; holding it until the puller is deleted");
    loop {
        thread::park();
    }
}
