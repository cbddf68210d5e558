//! What a test knows of secrets, and everything that its programs wrote: the two must never meet.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Secrets, and the places where none of them may stand.
#[derive(Debug, Default)]
pub struct Book(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    secrets: BTreeSet<String>,
    files: Vec<PathBuf>,
    texts: Vec<(String, String)>,
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a secret; of a token also its signature alone.
    pub fn secret(&self, secret: &str) {
        let mut pages = self.pages();
        pages.secrets.insert(secret.to_owned());
        if let Some((_, signature)) = secret.rsplit_once('.')
            && signature.len() > 16
        {
            pages.secrets.insert(signature.to_owned());
        }
    }

    /// Notes a file into which a program writes.
    pub(crate) fn file(&self, path: PathBuf) {
        self.pages().files.push(path);
    }

    /// Notes what a program said.
    pub(crate) fn text(&self, who: &str, text: &str) {
        self.pages().texts.push((who.to_owned(), text.to_owned()));
    }

    /// Checks that no secret and no signed URL stands in what the programs wrote.
    ///
    /// # Panics
    /// If one does, with the line, its secret cut out.
    pub fn check(&self) {
        let pages = self.pages();
        let files = pages.files.iter().map(|path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            (path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned())
        });
        for (who, text) in files.chain(pages.texts.iter().cloned()) {
            for line in text.lines() {
                if let Some(found) = leak(line, &pages.secrets) {
                    panic!("{who} tells a secret: {}", line.replace(found, "<the secret>"));
                }
            }
        }
    }
}

/// Gives what must not be in a line.
fn leak<'a>(line: &'a str, secrets: &'a BTreeSet<String>) -> Option<&'a str> {
    if let Some(known) = secrets.iter().find(|secret| line.contains(secret.as_str())) {
        return Some(known);
    }
    ["X-Amz-Signature=", "X-Amz-Security-Token="].into_iter().find_map(|name| {
        let rest = &line[line.find(name)? + name.len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        (end > 0).then(|| &rest[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_seen() {
        let book = Book::default();
        book.secret("head.body.a-signature-of-some-length");
        book.text("server", "nothing to see: X-Amz-Signature= is empty\nhead.body alone is no token");
        book.check();
        for line in [
            "token head.body.a-signature-of-some-length",
            "only a-signature-of-some-length",
            "PUT http://b/k?X-Amz-Signature=0123abcd&x=1",
        ] {
            let told = Book::default();
            told.secret("head.body.a-signature-of-some-length");
            told.text("agent", line);
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| told.check()));
            let message = *panic.unwrap_err().downcast::<String>().unwrap();
            assert!(message.contains("<the secret>") && !message.contains("0123abcd"), "{message}");
        }
    }
}
