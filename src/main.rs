use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use prepull::args::{self, Command, Output, RunArgs, Server};
use prepull::clock::SystemClock;
use prepull::kube::{Access, KubeCluster, SERVICE_ACCOUNT};
use prepull::report::{Exit, Report, Verbosity};
use prepull::run::{Line, Run, drive};
use prepull::tell::tell;
use prepull::words::plain;
use prepull::{VERSION, hold};

fn main() -> ExitCode {
    let env = |name: &str| env::var(name).ok();
    let result = match args::parse(env::args_os().skip(1).collect(), &env) {
        Ok(Command::Help) => print(args::HELP.trim_end(), Exit::Done),
        Ok(Command::Hold) => hold::hold().map(|()| 0).map_err(|err| failed("hold", &err)),
        Ok(Command::Install(path)) => {
            hold::install(&path).map(|()| 0).map_err(|err| failed("install", &err))
        }
        Ok(Command::Run(args)) => run(*args, &env).map_err(|err| (Exit::Usage, err)),
        Ok(Command::Version) => print(&format!("prepull {VERSION}"), Exit::Done),
        Err(err) => Err((Exit::Usage, err.to_string())),
    };
    ExitCode::from(result.unwrap_or_else(|(exit, message)| complain(exit, &message)))
}

fn run(args: RunArgs, env: &dyn Fn(&str) -> Option<String>) -> Result<u8, String> {
    let RunArgs { mut config, namespace, judgement, output, verbosity, server } = args;
    let access = match &server {
        Server::At { url, certificate_authority, token_file } => {
            Access::at(url, certificate_authority.as_deref(), token_file.as_deref())?
        }
        Server::InCluster => Access::in_cluster(env, Path::new(SERVICE_ACCOUNT))?,
    };
    config.namespace = match (namespace, &server) {
        (Some(ns), _) => ns,
        (None, Server::At { .. }) => config.namespace,
        (None, Server::InCluster) => access.namespace()?,
    };
    let mut cluster = KubeCluster::open(&access, &config.namespace)?;
    let mut clock = SystemClock::start().map_err(|err| format!("cannot handle signals: {err}"))?;
    let mut run = Run::new(&config);
    // With JSON the log keeps off standard output, which is the report's alone.
    let say = |line: &str| match output {
        Output::Json => writeln!(io::stderr(), "{line}"),
        Output::Text => writeln!(io::stdout(), "{line}"),
    };
    drive(&mut run, &mut cluster, &mut clock, &mut |line| match line {
        Line::Verbose(_) if verbosity == Verbosity::Normal => {}
        // A log that nobody reads any more is no reason to stop pulling.
        Line::Always(line) | Line::Verbose(line) => _ = say(&line),
    });
    let report = Report::new(&config, &run, judgement);
    let exit = report.exit_code();
    match output {
        Output::Text if exit == Exit::Usage as u8 => _ = complain(Exit::Usage, report.verdict()),
        Output::Json => _ = writeln!(io::stdout(), "{}", report.json()),
        Output::Text => report.lines(verbosity).iter().for_each(|line| _ = say(line)),
    }
    // What follows may take its time, which others may cut short.
    tell(&report, &config, &mut cluster);
    Ok(exit)
}

fn print(text: &str, exit: Exit) -> Result<u8, (Exit, String)> {
    let _ = writeln!(io::stdout(), "{text}");
    Ok(exit as u8)
}

fn complain(exit: Exit, message: &str) -> u8 {
    let _ = writeln!(io::stderr(), "prepull: {message}");
    exit as u8
}

fn failed(command: &str, err: &io::Error) -> (Exit, String) {
    (Exit::Failed, format!("`{command}` failed: {}", plain(err)))
}
