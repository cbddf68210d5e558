//! Brings an object from the bucket into a local file, which appears only when it is the right one.
//!
//! The bucket never sees the operator's token: the server says where the object is, and a client that knows no
//! token fetches it there.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crc_fast::{CrcAlgorithm, Digest};
use hoist_wire::Crc64;
use hoist_wire::rest::Download;
use reqwest::StatusCode;
use reqwest::header::RANGE;
use tempfile::NamedTempFile;
use url::Url;

use crate::api::{self, Api, Ask};
use crate::failure::Failure;
use crate::screen::Screen;

/// Tries in a row that bring no byte, after which it gives up.
const MAX_FRUITLESS: u32 = 5;

/// Silence after which a connection to the bucket counts as dead.
const SILENCE: Duration = Duration::from_secs(60);

/// What was fetched so far.
struct Partial {
    file: NamedTempFile,
    digest: Digest,
    bytes: u64,
}

/// Where an object is saved: its name once it is whole, and the folder in which it grows.
#[derive(Debug)]
pub(crate) struct Place {
    file: PathBuf,
    folder: PathBuf,
}

/// Finds the place for `path`, before anything is asked of the server. A link is followed, and stays.
///
/// # Errors
/// [`Failure::Input`] when no file can be made there, or when what is there is no regular file.
pub(crate) fn place(path: &Path) -> Result<Place, Failure> {
    let wrong = |why: &str| Failure::Input(format!("cannot save to {}: {why}", path.display()));
    let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    match path.metadata() {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            return Err(wrong("it is a device, a pipe or a socket, which a file would replace; name a file"));
        }
        Err(_) if is_link => {
            return Err(wrong(
                "it is a link that leads to no file; remove it, or name the file that is meant",
            ));
        }
        Ok(_) | Err(_) => {}
    }
    let real = if is_link { path.canonicalize() } else { Ok(path.to_owned()) };
    let file = real.map_err(|error| wrong(&format!("the link cannot be followed: {error}")))?;
    if path.file_name().is_none() || path.is_dir() {
        return Err(wrong("it is a folder; name a file in it"));
    }
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    if !folder.is_dir() {
        return Err(wrong("its folder does not exist"));
    }
    Ok(Place { file, folder })
}

/// Saves the object of a completed download to `path`.
///
/// # Errors
/// [`Failure::NotSaved`] when the bytes are not those of the record or cannot be written; else as [`Api::once`].
pub(crate) async fn save(
    api: &Api,
    download: &Download,
    path: &Path,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let unwritable = |error: &std::io::Error| Failure::NotSaved {
        code: "cannot_write",
        message: format!("cannot write {}: {error}", path.display()),
    };
    let place = place(path)?;
    let mut partial = start(&place.folder).map_err(|e| unwritable(&e))?;
    let mut fruitless = 0;
    loop {
        let before = partial.bytes;
        let failure = match fetch(api, download, &mut partial, screen).await {
            Ok(()) => break,
            Err(Fault::Disk(error)) => return Err(unwritable(&error)),
            Err(Fault::Failure(failure)) => failure,
        };
        fruitless = if partial.bytes > before { 0 } else { fruitless + 1 };
        if !failure.is_passing() || fruitless >= MAX_FRUITLESS {
            return Err(failure);
        }
        screen.note(&format!("{}; trying again", crate::text::safe(&failure.to_string())));
        tokio::time::sleep(api::pause(&failure, Duration::from_millis(250 << fruitless))).await;
    }
    check(download, &partial)?;
    partial.file.as_file().sync_all().map_err(|e| unwritable(&e))?;
    partial.file.persist(&place.file).map_err(|e| unwritable(&e.error))?;
    Ok(())
}

enum Fault {
    Disk(std::io::Error),
    Failure(Failure),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn start(folder: &Path) -> std::io::Result<Partial> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".hoist-").suffix(".part");
    #[cfg(unix)]
    // As any new file: what the umask leaves. The default of a temporary file, 0600, would stay after the rename.
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder)?;
    Ok(Partial { file, digest: Digest::new(CrcAlgorithm::Crc64Nvme), bytes: 0 })
}

/// Fetches what is missing, by a URL that is fresh for each try.
async fn fetch(
    api: &Api,
    download: &Download,
    partial: &mut Partial,
    screen: &mut Screen,
) -> Result<(), Fault> {
    let id = download.id.to_string();
    let url = api.redirect(&Ask::get(&["downloads", &id, "file"])).await?;
    let mut request = bucket_client(&url)?.get(url.clone());
    if partial.bytes > 0 {
        request = request.header(RANGE, format!("bytes={}-", partial.bytes));
    }
    let mut response = request.send().await.map_err(|error| unreachable(&url, error))?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if partial.bytes > 0 => {}
        StatusCode::OK => restart(partial).map_err(Fault::Disk)?,
        // The bytes so far are all there is; whether they are right is checked next.
        StatusCode::RANGE_NOT_SATISFIABLE => return Ok(()),
        status if status.is_server_error() => {
            return Err(unreachable_because(&url, format!("it answered {status}")).into());
        }
        status => {
            return Err(Fault::Failure(Failure::NotSaved {
                code: "bucket_refused",
                message: format!("the bucket at {} answered {status}", host(&url)),
            }));
        }
    }
    let total = download.size_bytes.unwrap_or(0);
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&url, error))? {
        partial.bytes += chunk.len() as u64;
        if download.size_bytes.is_some_and(|size| partial.bytes > size) {
            return Ok(());
        }
        partial.digest.update(&chunk);
        partial.file.write_all(&chunk).map_err(Fault::Disk)?;
        screen.saving(partial.bytes, total);
    }
    Ok(())
}

fn restart(partial: &mut Partial) -> std::io::Result<()> {
    partial.file.as_file().set_len(0)?;
    partial.file.rewind()?;
    partial.digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    partial.bytes = 0;
    Ok(())
}

fn check(download: &Download, partial: &Partial) -> Result<(), Failure> {
    let wrong = |what: &str, is: String, should: String| Failure::NotSaved {
        code: "checksum_mismatch",
        message: format!("the object's {what} is {is}, and the record says {should}; nothing was saved"),
    };
    if let Some(size) = download.size_bytes.filter(|size| *size != partial.bytes) {
        return Err(wrong("size in bytes", at_least(partial.bytes, size), size.to_string()));
    }
    let sum = Crc64(partial.digest.finalize()).to_string();
    match &download.checksum_crc64nvme {
        Some(should) if *should == sum => Ok(()),
        Some(should) => Err(wrong("CRC64NVME", sum, should.clone())),
        None => Err(Failure::NotSaved {
            code: "unproven",
            message: "the record has no checksum to hold the object against; nothing was saved".to_owned(),
        }),
    }
}

fn at_least(bytes: u64, expected: u64) -> String {
    if bytes > expected { format!("more than {expected}") } else { bytes.to_string() }
}

fn bucket_client(url: &Url) -> Result<reqwest::Client, Failure> {
    api::client(url)?.read_timeout(SILENCE).build().map_err(|error| api::setup(&error))
}

fn host(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn unreachable(url: &Url, error: reqwest::Error) -> Failure {
    unreachable_because(url, api::causes(error))
}

fn unreachable_because(url: &Url, cause: String) -> Failure {
    Failure::Unreachable {
        who: format!("the bucket at {}", host(url)),
        cause,
        mend: "the server's S3_DOWNLOAD_ENDPOINT_URL must be an address that works from here",
    }
}
