//! The whole of hoist on one machine: server, agent and command line, and one file from the site into the bucket.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use hoist_wire::rest::{ClientStatus, Download};

use crate::installs;
use crate::programs::{Program, bare, usage};
use crate::steps::{Shell, show};

const CLIENT: &str = "restaurant-1";

/// How the demo goes.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leaves everything running, and says how to go on and how to stop it.
    #[arg(long)]
    keep: bool,
    /// Bytes in the file, such as 100MiB.
    #[arg(long, default_value = "100MiB", value_parser = hoist_wire::duration::parse_size)]
    size: u64,
}

/// What the demo made, and what runs in it. Fields drop in order: the agent ends before the server.
struct Stage {
    agent: Option<Program>,
    server: Program,
    folder: Folder,
    bin: PathBuf,
    url: String,
}

/// A folder below the system's temporary one that goes with the demo, unless it is kept.
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

impl Demo {
    /// Runs the demo; whatever it started is gone when it ends, unless it is kept.
    pub(crate) fn run(&self, shell: &Shell) -> Result<()> {
        installs::debian(shell, &[installs::COMPILER, installs::CURL, installs::COREUTILS])?;
        shell.step("build of the three programs (some minutes the first time)", || {
            let args = ["build", "--release", "-p", "hoist-server", "-p", "hoist-agent", "-p", "hoist"];
            shell.run(&mut shell.cargo(&args))
        })?;
        let mut stage = Stage::set(shell)?;
        let result = stage.play(shell, self.size);
        if let (Err(_), Some(agent)) = (&result, &stage.agent) {
            println!("\nthe server's log ends:\n{}", stage.server.last_words());
            println!("\nthe agent's log ends:\n{}", agent.last_words());
        }
        if self.keep && result.is_ok() {
            stage.keep();
        } else {
            println!("ending agent and server");
            if let Some(agent) = &mut stage.agent {
                agent.stop(shell);
            }
            stage.server.stop(shell);
        }
        result
    }
}

impl Stage {
    /// Starts the server in a new folder.
    fn set(shell: &Shell) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("hoist-demo-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let folder = Folder { path, kept: false };
        std::fs::create_dir(folder.path.join("site"))?;
        let bin = shell.target().join("release");
        println!("== server, in trial mode, with its bucket in {}", folder.path.display());
        let settings =
            [("SERVER_PORT", "0".to_owned()), ("DATA_DIR", folder.path.join("data").display().to_string())];
        let mut server =
            Program::start("server", &bin.join("hoist-server"), &folder.path, &["--trial"], &settings)?;
        let out = folder.path.join("server.out");
        let url = shell.until("the server's first line", Duration::from_secs(30), || {
            server.must_run()?;
            let text = std::fs::read_to_string(&out)?;
            let line = text.split_inclusive('\n').next().and_then(|line| line.strip_suffix('\n'));
            Ok(line.and_then(|line| line.strip_prefix("listening on ")).map(str::to_owned))
        })?;
        println!("listening on {url}");
        Ok(Self { agent: None, server, folder, bin, url })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path.join(name)
    }

    fn hoist(&self, args: &[&str]) -> Command {
        let mut command = bare(&self.bin.join("hoist"), &self.folder.path);
        command.args(args).env("SERVER_URL", &self.url);
        command
    }

    fn play(&mut self, shell: &Shell, size: u64) -> Result<()> {
        let report = self.path("site/report.bin");
        println!("== file at the site: {size} random bytes");
        let mut random = File::open("/dev/urandom")?.take(size);
        std::io::copy(&mut random, &mut File::create(&report)?)?;

        self.start_agent(shell, &report)?;
        let download = self.ask(shell)?;
        let id = download.id.to_string();
        println!("== hoist watch {id}");
        shell.run(&mut self.hoist(&["watch", &id]))?;
        // By the server's record: the command line only looks from time to time.
        let record = shell.output(&mut self.hoist(&["show", &id, "--json"]))?;
        let record: Download = serde_json::from_str(&record)?;
        let finished = record.finished_at.context("it is completed, and has no end")?;
        let millis = finished.ms_since(record.created_at).max(1);

        let agent = self.agent.as_mut().context("no agent")?;
        agent.must_run()?;
        let used = usage(agent.pid());
        self.server.must_run()?;

        let saved = self.path("saved.bin");
        println!("== what is in the bucket, saved and compared");
        let url = format!("{}/downloads/{id}/file", self.url);
        let mut curl = Command::new("curl");
        curl.env("no_proxy", "127.0.0.1").args(["-fsSL", "-o"]).arg(&saved).arg(&url);
        println!("$ {}", show(&curl));
        shell.run(&mut curl)?;
        let (sent, got) = (sha256(shell, &report)?, sha256(shell, &saved)?);
        println!("{sent}  at the site\n{got}  from the bucket");
        ensure!(sent == got, "THE FILE FROM THE BUCKET IS NOT THE FILE AT THE SITE (SHA-256 differs)");

        #[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
        let (secs, rate) = (millis as f64 / 1e3, size as f64 / 1e3 / millis as f64);
        println!(
            "\n{size} bytes from the request into the bucket, proven, in {secs:.2} s ({rate:.1} MB/s), SHA-256 the same"
        );
        match used {
            Some(used) => println!(
                "agent: peak memory {}.{} MiB, CPU {:.2} s",
                used.peak_kib / 1024,
                used.peak_kib % 1024 * 10 / 1024,
                used.cpu_secs
            ),
            None => println!("agent: memory and CPU cannot be read on this system"),
        }
        Ok(())
    }

    /// Starts the agent, and waits until the server says that it is connected.
    fn start_agent(&mut self, shell: &Shell, report: &Path) -> Result<()> {
        println!("== agent of {CLIENT}, which may give files below {}", self.path("site").display());
        let token = shell.output(&mut self.hoist(&["token", "client", CLIENT]))?;
        let settings = [
            ("SERVER_WS_URL", format!("{}/ws/connect", self.url.replacen("http", "ws", 1))),
            ("CLIENT_TOKEN", token),
            ("FILE_PATH", report.display().to_string()),
        ];
        let root = self.path("site").display().to_string();
        let binary = self.bin.join("hoist-agent");
        let agent = Program::start("agent", &binary, &self.folder.path, &["--root", &root], &settings)?;
        self.agent = Some(agent);
        shell.until("the agent to connect", Duration::from_secs(30), || {
            self.server.must_run()?;
            if let Some(agent) = &mut self.agent {
                agent.must_run()?;
            }
            let clients = shell.output(&mut self.hoist(&["list", "--json"]))?;
            let page: hoist_wire::rest::ClientPage = serde_json::from_str(&clients)?;
            Ok(page
                .clients
                .iter()
                .any(|client| client.client_id.as_str() == CLIENT && client.connected)
                .then_some(()))
        })?;
        let status = shell.output(&mut self.hoist(&["status", CLIENT, "--json"]))?;
        let status: ClientStatus = serde_json::from_str(&status)?;
        println!("connected: {} (agent {})", status.client_id, status.version.as_deref().unwrap_or("?"));
        Ok(())
    }

    /// Asks for the file as the README does.
    fn ask(&self, shell: &Shell) -> Result<Download> {
        let mut curl = Command::new("curl");
        curl.env("no_proxy", "127.0.0.1").args([
            "-sS",
            "-X",
            "POST",
            &format!("{}/trigger-download/{CLIENT}", self.url),
        ]);
        println!("== the file is asked for\n$ {}", show(&curl));
        let answer = shell.output(&mut curl)?;
        println!("{answer}");
        serde_json::from_str(&answer).context("the answer is no download")
    }

    fn keep(mut self) {
        self.folder.kept = true;
        let pids: Vec<String> =
            self.agent.iter().chain([&self.server]).map(|program| program.pid().to_string()).collect();
        self.server.keep();
        if let Some(agent) = &mut self.agent {
            agent.keep();
        }
        let folder = self.folder.path.display();
        println!("\nagent and server keep running (processes {}). Go on with:", pids.join(" and "));
        println!("  export SERVER_URL={}", self.url);
        println!("  export PATH={}:$PATH", self.bin.display());
        println!("  hoist list");
        println!("  hoist download {CLIENT} {folder}/site/report.bin -o /tmp/report.bin");
        println!("  open {} in a browser", self.url);
        println!("logs: {folder}/server.log, {folder}/agent.log");
        println!("stop: kill {}; rm -r {folder}", pids.join(" "));
    }
}

fn sha256(shell: &Shell, path: &Path) -> Result<String> {
    let line = shell.output(Command::new("sha256sum").arg(path))?;
    line.split_whitespace().next().map(str::to_owned).context("sha256sum said nothing")
}
