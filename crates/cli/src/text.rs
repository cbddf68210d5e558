//! How things are written for people: sizes, times, and text from elsewhere that must not steer a terminal.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use hoist_wire::reach::Labels;
use hoist_wire::rest::{CloneRole, CloneSuspect, Download};
use hoist_wire::{ReasonCode, Timestamp};

use crate::failure::Failure;

/// Prints a line on stdout; a reader that went away (`| head`) is no error.
///
/// # Errors
/// [`Failure::Output`] when it cannot be written.
pub(crate) fn print(line: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a line on stderr.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Tells whether a terminal could take the character for a command, or show text in another order for it.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Escapes what could steer a terminal: names of files and messages come from sites.
pub(crate) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Escapes the same in JSON, whose meaning stays: such characters are legal only inside its strings.
pub(crate) fn safe_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.trim_end().chars() {
        if is_unsafe(c) && !matches!(c, '\n' | '\r' | '\t') {
            // All of them lie in the basic plane: one \uXXXX each.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Writes a number of bytes: `999 B`, `5.0 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = usize::try_from(bytes.ilog2() / 10).unwrap_or(0).min(UNITS.len());
    // In tenths, rounded down, so that 100 % is shown only for all of it.
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power - 1])
}

/// Writes a length of time by its two largest units: `45s`, `3m20s`, `2h05m`, `3d04h`.
pub(crate) fn span(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m{:02}s", secs / 60, secs % 60),
        3600..86_400 => format!("{}h{:02}m", secs / 3600, secs % 3600 / 60),
        _ => format!("{}d{:02}h", secs / 86_400, secs % 86_400 / 3600),
    }
}

/// Writes a moment that may be unknown.
pub(crate) fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}

/// Tells whether the bytes of a download are moving right now: then how many and how fast is all there is to say.
fn is_moving(reason: ReasonCode) -> bool {
    matches!(reason, ReasonCode::Hashing | ReasonCode::Sending)
}

/// Writes how many bytes went, how fast they go and how long the rest takes.
pub(crate) fn progress(download: &Download) -> String {
    let Some(total) = download.size_bytes else { return String::new() };
    let sent = download.sent_bytes.min(total);
    let percent = if total == 0 { 100 } else { u128::from(sent) * 100 / u128::from(total) };
    let mut text = format!("{} of {} ({percent}%)", size(sent), size(total));
    if let Some(rate) = download.rate_bytes_per_sec.filter(|rate| *rate > 0) {
        let _ = write!(text, ", {}/s, {} left", size(rate), span((total - sent).div_ceil(rate)));
    }
    text
}

/// Writes where a download is: its state, its bytes and, when it waits, why and what happens next.
pub(crate) fn standing(download: &Download) -> String {
    let mut text = download.state.to_string();
    if let Some(reason) = download.reason {
        let _ = write!(text, ": {reason}");
        if !is_moving(reason) {
            if let Some(message) = &download.reason_message {
                let _ = write!(text, " ({})", safe(message));
            }
            if let Some(since) = download.reason_since {
                let _ = write!(text, " since {since}");
            }
            if let Some(next) = &download.next_step {
                let _ = write!(text, "; next: {}", safe(next));
            }
            if let Some(at) = download.next_at {
                let _ = write!(text, ", by {at}");
            }
        }
    }
    let progress = progress(download);
    if let Some(rate) = download.max_rate_bytes_per_sec.filter(|_| !download.state.is_final()) {
        let _ = write!(text, "; limited to {}/s", size(rate));
    }
    if !download.state.is_final() && !progress.is_empty() {
        let _ = write!(text, "; {progress}");
    }
    text
}

/// Writes all that a person wants to know of one download.
pub(crate) fn card(download: &Download) -> String {
    let mut text = format!("download   {}\nclient     {}\n", download.id, download.client_id);
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {}", safe(value));
    };
    row("file", download.file_path.as_deref().unwrap_or("(the agent's FILE_PATH)"));
    row("state", &standing(download));
    if let (Some(reason), Some(message)) = (download.reason, &download.reason_message)
        && is_moving(reason)
    {
        let since = moment(download.reason_since);
        let next = download.next_step.as_deref().unwrap_or("-");
        row("because", &format!("{message} since {since}; next: {next}, by {}", moment(download.next_at)));
    }
    if let Some(error) = &download.error {
        row("error", &format!("{} ({})", error.message, error.code));
    }
    if let Some(bytes) = download.size_bytes {
        row("size", &format!("{bytes} bytes"));
    }
    if let Some(rate) = download.max_rate_bytes_per_sec {
        row("max rate", &format!("{rate} bytes/s"));
    }
    if let Some(key) = &download.object_key {
        row("object", &format!("s3://{}/{key}", download.bucket));
    }
    if let Some(sum) = &download.checksum_crc64nvme {
        row("crc64nvme", sum);
    }
    if let Some(proof) = download.proof {
        row("proof", proof.as_str());
    }
    for (name, value) in &download.metadata {
        row("metadata", &format!("{name}={value}"));
    }
    row("requested", &format!("{} by {}", download.created_at, download.requested_by));
    match download.finished_at {
        Some(at) => row("finished", &at.to_string()),
        None => row("expires", &download.expires_at.to_string()),
    }
    text.trim_end().to_owned()
}

/// Writes which two agents say that they are the same client.
pub(crate) fn clone(at: Timestamp, suspects: &[CloneSuspect]) -> String {
    let mut text = format!("clone      suspected at {at}: two agents are this client");
    for suspect in suspects {
        let did = match suspect.role {
            CloneRole::Linked => "has the link",
            CloneRole::Refused => "was refused",
        };
        let known = |text: &Option<String>| safe(text.as_deref().unwrap_or("unknown"));
        let (machine, process) = (known(&suspect.machine), known(&suspect.process));
        let _ = write!(text, "\n           machine {machine}, process {process}");
        if let Some(host) = &suspect.host {
            let _ = write!(text, ", host {}", safe(host));
        }
        let _ = write!(text, ": {did}");
    }
    text
}

/// Writes rows below each other, every column as wide as its widest cell.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cells: Vec<Vec<String>> = std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect())
        .chain(rows.iter().map(|row| row.iter().map(|cell| safe(cell)).collect()))
        .collect();
    let width = |column: usize| {
        cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Shows labels as they are written.
pub(crate) fn labels(labels: &Labels) -> String {
    if labels.is_empty() {
        return "-".to_owned();
    }
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_elsewhere_steers_the_terminal() {
        assert_eq!(safe("a\u{1b}[2Jb\nc\u{202e}d\u{9b}"), "a\\u{1b}[2Jb\\nc\\u{202e}d\\u{9b}");
        assert_eq!(safe("Tagesbericht März/日本.txt"), "Tagesbericht März/日本.txt");
        let json = serde_json::to_string("\u{9b}31m\u{202e}x").unwrap();
        assert_eq!(safe_json(&json), "\"\\u009b31m\\u202ex\"");
        let back: String = serde_json::from_str(&safe_json(&json)).unwrap();
        assert_eq!(back, "\u{9b}31m\u{202e}x");
    }

    #[test]
    fn no_character_turns_the_order_of_text_round() {
        let turning =
            "\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{61c}";
        for c in turning.chars() {
            let name = format!("invoice{c}fdp.exe");
            let said = format!("\\u{{{:x}}}", u32::from(c));
            assert_eq!(safe(&name), format!("invoice{said}fdp.exe"));
            assert!(!safe_json(&serde_json::to_string(&name).unwrap()).contains(c));
            assert!(!table(&["FILE"], &[vec![name]]).contains(c));
        }
    }

    #[test]
    fn sizes_and_times_are_short() {
        let sizes = [0, 1023, 1024, 1536, 104_857_600, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100.0 MiB", "16383.9 PiB"]);
        assert_eq!([0, 59, 200, 7500, 273_600].map(span), ["0s", "59s", "3m20s", "2h05m", "3d04h"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "\u{7}".to_owned()]];
        assert_eq!(table(&["ID", "N"], &rows), "ID    N\na     1\nlong  \\u{7}");
    }
}
