//! The ways out of a root, by system call and trick, each tried through the kernel's resolution and through the walk.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, RenameFlags, mknodat, renameat_with};

use super::*;

type Way = fn(&Path, &Path, Symlinks) -> io::Result<Opened>;

const WAYS: [(&str, Way); 2] = [("openat2", resolved_by_kernel), ("the walk", walked)];

/// A root with ways out of it, and a neighbour that must stay unseen.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    for folder in ["root/sub", "outside"] {
        std::fs::create_dir_all(base.join(folder)).unwrap();
    }
    for file in ["root/file", "root/sub/deep", "outside/secret"] {
        std::fs::write(base.join(file), file).unwrap();
    }
    let root = base.join("root");
    for (to, name) in [
        ("sub/deep", "inner"),
        ("sub", "inner-dir"),
        ("../outside/secret", "escape"),
        ("../outside/absent", "escape-absent"),
        ("../outside", "escape-dir"),
        ("/etc/passwd", "escape-absolute"),
        ("escape", "escape-twice"),
        ("sub/../../outside/secret", "escape-by-dots"),
        ("/proc/self/cwd", "escape-magic"),
        ("absent", "dangling"),
        ("round", "round"),
        ("pipe", "to-pipe"),
    ] {
        symlink(to, root.join(name)).unwrap();
    }
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    (dir, root)
}

/// Says in a word what came of it.
fn came(outcome: io::Result<Opened>) -> String {
    match outcome {
        Ok(Opened::File(file)) => format!("gave {}", io::read_to_string(file).unwrap()),
        Ok(Opened::Other(NotAFile::Directory)) => "folder".to_owned(),
        Ok(Opened::Other(NotAFile::Special(kind))) => kind.to_owned(),
        Ok(Opened::Outside) => "outside".to_owned(),
        Ok(Opened::Symlink) => "symlink".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

#[test]
fn every_way_out_is_closed_and_every_way_in_is_open() {
    let (_dir, root) = place();
    let base = root.parent().unwrap().display().to_string();
    for (asked, followed, refused) in [
        ("file", "gave root/file", "gave root/file"),
        ("sub/deep", "gave root/sub/deep", "gave root/sub/deep"),
        ("sub/../file", "gave root/file", "gave root/file"),
        ("./sub/.//deep", "gave root/sub/deep", "gave root/sub/deep"),
        ("inner", "gave root/sub/deep", "symlink"),
        ("inner-dir/deep", "gave root/sub/deep", "symlink"),
        ("inner-dir/../file", "gave root/file", "symlink"),
        ("escape", "outside", "symlink"),
        ("escape-absent", "outside", "symlink"),
        ("escape-dir/secret", "outside", "symlink"),
        ("escape-dir/absent", "outside", "symlink"),
        ("escape-absolute", "outside", "symlink"),
        ("escape-twice", "outside", "symlink"),
        ("escape-by-dots", "outside", "symlink"),
        ("escape-magic/Cargo.toml", "outside", "symlink"),
        ("to-pipe", "pipe", "symlink"),
        ("..", "outside", "outside"),
        ("../outside/secret", "outside", "outside"),
        ("../outside/absent", "outside", "outside"),
        (concat!("../", "root", "/file"), "outside", "outside"),
        ("sub/../../outside/secret", "outside", "outside"),
        ("/etc/passwd", "outside", "outside"),
        (&format!("{base}/outside/secret"), "outside", "outside"),
        ("absent", "NotFound", "NotFound"),
        ("absent/file", "NotFound", "NotFound"),
        ("dangling", "NotFound", "symlink"),
        ("file/below", "NotADirectory", "NotADirectory"),
        ("sub", "folder", "folder"),
        (".", "folder", "folder"),
        ("pipe", "pipe", "pipe"),
        ("socket", "socket", "socket"),
    ] {
        for (way, open) in WAYS {
            let path = Path::new(asked);
            assert_eq!(came(open(&root, path, Symlinks::Follow)), followed, "{asked} by {way}");
            assert_eq!(came(open(&root, path, Symlinks::Refuse)), refused, "{asked} by {way}, no symlinks");
        }
    }
    for (_, open) in WAYS {
        assert!(open(&root, Path::new("round"), Symlinks::Follow).is_err());
        assert_eq!(came(open(&root, Path::new("round"), Symlinks::Refuse)), "symlink");
    }
}

#[test]
fn devices_and_magic_links_give_nothing() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    let fd = secret.as_file().as_raw_fd();
    for (way, open) in WAYS {
        for name in ["null", "zero", "full", "tty"] {
            let came = came(open(Path::new("/dev"), Path::new(name), Symlinks::Follow));
            assert!(came == "device" || came == "NotFound", "{name} by {way}: {came}");
        }
        let magic = [
            format!("self/fd/{fd}"),
            concat!("self/", "root", "/etc/passwd").to_owned(),
            "self/exe".to_owned(),
        ];
        for asked in magic {
            let came = came(open(Path::new("/proc"), Path::new(&asked), Symlinks::Follow));
            assert!(!came.starts_with("gave"), "{asked} by {way}: {came}");
        }
    }
    assert_eq!(came(open_named(Path::new("/dev/null"))), "device");
}

#[test]
fn a_block_device_is_never_opened() {
    let (_dir, root) = place();
    let number = rustix::fs::makedev(7, 250);
    if let Err(error) = mknodat(CWD, root.join("disk"), FileType::BlockDevice, Mode::RWXU, number) {
        eprintln!("skipped: no block device can be made here ({error})");
        return;
    }
    // There is no such disk: whoever opened it would hear ENXIO.
    for (way, open) in WAYS {
        assert_eq!(came(open(&root, Path::new("disk"), Symlinks::Follow)), "device", "{way}");
    }
    assert_eq!(came(open_named(&root.join("disk"))), "device");
}

/// Whoever may mount below a root decides what is below it: a bind mount is the administrator's own word.
#[test]
fn what_is_mounted_below_a_root_is_below_it_and_its_parent_is_not() {
    let (_dir, root) = place();
    let (outside, there) = (root.parent().unwrap().join("outside"), root.join("sub"));
    let mounted = Command::new("mount").arg("--bind").args([&outside, &there]).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    let tried = WAYS.map(|(_, open)| {
        ["sub/secret", "sub/../file", "sub/../../outside/secret"]
            .map(|asked| came(open(&root, Path::new(asked), Symlinks::Follow)))
    });
    assert!(Command::new("umount").arg(&there).status().unwrap().success());
    for tried in tried {
        assert_eq!(tried, ["gave outside/secret", "gave root/file", "outside"]);
    }
}

/// Opens `asked` thousands of times by each way while `turn` is done again and again; gives what came, each once.
fn race(root: &Path, asked: &[&str], turn: impl Fn() + Sync) -> std::collections::BTreeSet<String> {
    let mut all = std::collections::BTreeSet::new();
    for (_, open) in WAYS {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    turn();
                }
            });
            for _ in 0..3_000 {
                for asked in asked {
                    for symlinks in [Symlinks::Follow, Symlinks::Refuse] {
                        all.insert(came(open(root, Path::new(asked), symlinks)));
                    }
                }
            }
            done.store(true, Ordering::Release);
        });
    }
    all
}

#[test]
fn what_is_exchanged_between_look_and_open_gives_no_secret_and_never_waits() {
    let (_dir, root) = place();
    let names = ["file", "escape", "pipe", "escape-dir", "sub"];
    let turn = || {
        for name in &names[1..] {
            for _ in 0..2 {
                renameat_with(CWD, root.join("file"), CWD, root.join(name), RenameFlags::EXCHANGE).unwrap();
            }
        }
    };
    let came = race(&root, &["file", "escape", "pipe"], turn);
    assert!(
        came.contains("gave root/file") && came.contains("outside") && came.contains("symlink"),
        "{came:?}"
    );
    assert!(came.iter().all(|word| !word.contains("outside/secret")), "{came:?}");
}

#[test]
fn a_parent_that_is_moved_out_in_the_middle_leads_nowhere() {
    let (_dir, root) = place();
    let base = root.parent().unwrap();
    std::fs::write(root.join("secret"), "harmless").unwrap();
    let turn = || {
        std::fs::rename(root.join("sub"), base.join("outside/sub")).unwrap();
        std::fs::rename(base.join("outside/sub"), root.join("sub")).unwrap();
    };
    // From where it is moved to, `..` is the folder with the secret.
    let came = race(&root, &["sub/../secret", "sub/deep"], turn);
    assert!(came.contains("gave harmless"), "{came:?}");
    assert!(came.iter().all(|word| !word.contains("outside/secret")), "{came:?}");
}

#[test]
fn what_is_opened_is_open_for_reading_alone_and_stays_as_it_was() {
    let (_dir, root) = place();
    let state = |path: &Path| {
        let meta = std::fs::metadata(path).unwrap();
        (meta.mtime_nsec(), meta.ctime_nsec(), meta.len(), meta.mode())
    };
    let before = (state(&root), state(&root.join("file")));
    let kernel = resolved_by_kernel(&root, Path::new("file"), Symlinks::Follow);
    for opened in [kernel, walked(&root, Path::new("file"), Symlinks::Follow), open_named(&root.join("file"))]
    {
        let Ok(Opened::File(mut file)) = opened else { panic!("{opened:?}") };
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        assert_eq!(flags & OFlags::ACCMODE.bits(), OFlags::RDONLY.bits(), "{flags:o}");
        assert_eq!(flags & OFlags::PATH.bits(), 0, "{flags:o}");
        assert_ne!(flags & OFlags::CLOEXEC.bits(), 0, "{flags:o}");
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(Errno::BADF.raw_os_error()));
        file.read_to_end(&mut Vec::new()).unwrap();
    }
    assert_eq!((state(&root), state(&root.join("file"))), before);
}

#[test]
fn where_a_descriptor_cannot_be_opened_the_file_is_found_again_or_refused() {
    let (_dir, root) = place();
    let looked_at = std::fs::metadata(root.join("file")).unwrap();
    let find = |name: &str| Ok(File::open(root.join(name)).unwrap().into());
    let same = reopen(&looked_at, "/absent/7", || find("file")).unwrap();
    assert_eq!(io::read_to_string(same).unwrap(), "root/file");
    let other = reopen(&looked_at, "/absent/7", || find("sub/deep")).unwrap_err();
    assert_eq!(Errno::from_io_error(&other), Some(Errno::AGAIN));
}
