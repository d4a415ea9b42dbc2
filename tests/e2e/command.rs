//! Runs programs with a bound on their time, and keeps what they say.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Between two looks at something that is waited for; each look costs a process.
const PAUSE: Duration = Duration::from_millis(400);

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    pub what: String,
    /// None after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub ended: SystemTime,
}

/// A program that runs, until it is waited for or dropped.
pub struct Running {
    what: String,
    child: Child,
    began: Instant,
    /// Files take whatever comes, also from children that outlive the program.
    said: [PathBuf; 2],
}

/// Runs a program to its end, and kills it if that does not come in time.
pub fn run(command: &mut Command, bound: Duration) -> Finished {
    start(command).wait(bound)
}

pub fn start(command: &mut Command) -> Running {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let said = ["out", "err"].map(|it| scratch().join(format!("{number}.{it}")));
    let [stdout, stderr] = said.each_ref().map(|it| File::create(it).expect("scratch is ours"));
    let what = describe(command);
    let child = command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        // A group of its own, so that its children can be killed with it.
        .process_group(0)
        .spawn()
        .unwrap_or_else(|err| panic!("cannot run `{what}`: {err}"));
    Running { what, child, began: Instant::now(), said }
}

/// A folder for files that nobody needs afterwards.
pub fn scratch() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-{}", process::id()));
    fs::create_dir_all(&folder).expect("the target folder is ours");
    folder
}

impl Running {
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    pub fn wait(mut self, bound: Duration) -> Finished {
        while self.is_running() {
            if self.began.elapsed() > bound {
                self.kill_group();
                let Finished { what, stdout, stderr, .. } = self.end();
                panic!("`{what}` did not end within {bound:?}; it said:\n{stdout}{stderr}");
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.end()
    }

    /// What it has written to its standard output as yet.
    pub fn said_as_yet(&self) -> String {
        fs::read_to_string(&self.said[0]).expect("scratch is ours")
    }

    /// Sends SIGKILL, as the machine does when memory runs out.
    pub fn kill(self) -> Finished {
        self.kill_group();
        self.end()
    }

    /// Sends SIGTERM and leaves the end to the program.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal to the program, and leaves it at that.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        run(Command::new("kill").args(["-s", name, &pid]), Duration::from_secs(5)).succeeded();
    }

    fn kill_group(&self) {
        let group = format!("-{}", self.child.id());
        // It may have ended a moment ago.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    }

    fn end(mut self) -> Finished {
        let code = self.child.wait().expect("it is our child").code();
        let ended = SystemTime::now();
        let [stdout, stderr] = self
            .said
            .each_ref()
            .map(|it| String::from_utf8_lossy(&fs::read(it).unwrap_or_default()).into());
        Finished { what: self.what.clone(), code, stdout, stderr, ended }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill_group();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let said = self.said.each_ref().map(|it| fs::read_to_string(it).unwrap_or_default());
            println!("$ {}\n{}", self.what, said.concat());
        }
        self.said.iter().for_each(|it| _ = fs::remove_file(it));
    }
}

impl Finished {
    /// Everything it wrote.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "`{}` failed: {}", self.what, self.said());
        self
    }

    pub fn failed(self) -> Self {
        assert_eq!(self.code, Some(1), "`{}` has not failed: {}", self.what, self.said());
        self
    }
}

/// Looks until there is what is waited for, and panics with the last thing seen if that takes
/// too long.
pub fn until<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(it) => return it,
            Err(seen) if began.elapsed() > bound => {
                panic!("waited {bound:?} for {what}, and saw: {seen}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn describe(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|it| it.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
