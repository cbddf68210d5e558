//! The real `hoist`, as an operator types it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::binaries;
use crate::book::Book;

/// The command line, with the settings of one operator.
#[derive(Debug, Clone)]
pub struct Cli {
    folder: std::path::PathBuf,
    env: Vec<(String, String)>,
    book: Arc<Book>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// What it gave.
    pub stdout: String,
    /// What it told a person.
    pub stderr: String,
}

impl Cli {
    pub(crate) fn new(folder: &Path, server_url: &str, book: &Arc<Book>) -> Self {
        let env = vec![("SERVER_URL".to_owned(), server_url.to_owned())];
        Self { folder: folder.to_owned(), env, book: Arc::clone(book) }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be started, or is killed.
    pub async fn run(&self, args: &[&str]) -> Ended {
        let ended = self.run_untold(args).await;
        self.book.text("hoist's stdout", &ended.stdout);
        ended
    }

    /// Runs `hoist token …`: what it gives is a secret from now on, and may stand nowhere else.
    ///
    /// # Panics
    /// If it fails.
    pub async fn token(&self, args: &[&str]) -> String {
        let ended = self.run_untold(&[&["token"], args].concat()).await;
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let token = ended.stdout.strip_suffix('\n').expect("a line with the token");
        assert!(token.split('.').count() == 3 && !token.contains(char::is_whitespace), "not the token alone");
        self.book.secret(token);
        token.to_owned()
    }

    async fn run_untold(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(binaries::binary("hoist"));
        command
            .args(args)
            .env_clear()
            .env("HOME", &self.folder)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder);
        let output = spawn_blocking(move || command.output()).await.expect("a thread that waits for hoist");
        let output = output.expect("hoist can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().expect("hoist ends by itself");
        let ended = Ended { code, stdout: text(&output.stdout), stderr: text(&output.stderr) };
        self.book.text("hoist's stderr", &ended.stderr);
        ended
    }
}
