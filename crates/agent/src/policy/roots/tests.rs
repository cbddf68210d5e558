//! The way out of the roots, tried by every path; deny rules; hard links; races.

use super::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

/// A site with one root, and a neighbour of it that must stay unseen.
struct Place {
    dir: tempfile::TempDir,
    roots: Roots,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path();
    for folder in ["root/sub", "outside", "second"] {
        std::fs::create_dir_all(base.join(folder)).unwrap();
    }
    for file in ["root/file", "root/sub/deep", "outside/secret", "second/other", "second/file"] {
        std::fs::write(base.join(file), file).unwrap();
    }
    let root = base.join("root");
    symlink("sub/deep", root.join("inner")).unwrap();
    symlink("../outside/secret", root.join("escape")).unwrap();
    symlink("../outside/absent", root.join("escape-absent")).unwrap();
    symlink(base.join("outside"), root.join("escape-dir")).unwrap();
    symlink("/etc/passwd", root.join("escape-absolute")).unwrap();
    symlink("round", root.join("round")).unwrap();
    symlink(OsStr::from_bytes(b"odd\xff"), root.join("to-odd")).unwrap();
    std::fs::write(root.join(OsStr::from_bytes(b"odd\xff")), "odd").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let roots = Roots::new(&[root, base.join("second")], None, None).unwrap();
    Place { dir, roots }
}

fn code(roots: &Roots, asked: &str) -> Result<String, ErrorCode> {
    roots.open(Some(asked)).map(|file| file.name).map_err(|not_given| not_given.code)
}

#[test]
fn a_file_whose_size_is_a_lie_is_no_file() {
    let roots = Roots::new(&[PathBuf::from("/proc")], None, None).unwrap();
    let refused = roots.open(Some("/proc/cpuinfo")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotARegularFile, "{refused}");
}

#[test]
fn every_way_out_is_closed() {
    let place = place();
    let base = place.dir.path().display().to_string();
    for asked in [
        "escape",
        "escape-absent",
        "escape-dir/secret",
        "escape-dir/absent",
        "escape-absolute",
        "../outside/secret",
        "../outside/absent",
        "..",
        "sub/../../outside/secret",
        "/etc/passwd",
        "/absent",
        "/",
        &format!("{base}/outside/secret"),
        &format!("{base}/outside/absent"),
        &format!("{base}/{}", "root/../outside/secret"),
        &format!("{base}/rootless"),
    ] {
        assert_eq!(code(&place.roots, asked), Err(ErrorCode::OutsideRoots), "{asked}");
    }
}

#[test]
fn a_refusal_is_the_same_whether_something_is_there_or_not() {
    let place = place();
    for (there, absent) in [("escape", "escape-absent"), ("../outside/secret", "../outside/absent")] {
        let message = |asked: &str| place.roots.open(Some(asked)).unwrap_err().message.replace(asked, "");
        assert_eq!(message(there), message(absent));
    }
}

#[test]
fn files_are_found_in_the_roots_in_order() {
    let place = place();
    let base = place.dir.path().canonicalize().unwrap();
    for (asked, path) in [
        ("file", "root/file"),
        ("other", "second/other"),
        ("inner", "root/sub/deep"),
        ("sub/../file", "root/file"),
        ("./sub//deep", "root/sub/deep"),
    ] {
        let file = place.roots.open(Some(asked)).unwrap();
        assert_eq!(file.path, base.join(path).display().to_string(), "{asked}");
    }
    let absolute = base.join("second/file").display().to_string();
    assert_eq!(place.roots.open(Some(&absolute)).unwrap().path, absolute);
    let link = place.dir.path().join("link");
    symlink("root", &link).unwrap();
    let through = Roots::new(std::slice::from_ref(&link), None, None).unwrap();
    assert_eq!(code(&through, &link.join("file").display().to_string()), Ok("file".to_owned()));
}

#[test]
fn what_is_no_file_has_its_own_code() {
    let place = place();
    let long = "x".repeat(300);
    let far = "x/".repeat(2500);
    for (asked, expected) in [
        ("absent", ErrorCode::FileNotFound),
        ("file/below", ErrorCode::FileNotFound),
        ("sub", ErrorCode::IsADirectory),
        (".", ErrorCode::IsADirectory),
        ("pipe", ErrorCode::NotARegularFile),
        ("socket", ErrorCode::NotARegularFile),
        ("", ErrorCode::InvalidPath),
        ("fi\0le", ErrorCode::InvalidPath),
        ("to-odd", ErrorCode::PathNotUtf8),
        (&long, ErrorCode::PathTooLong),
        (&far, ErrorCode::PathTooLong),
    ] {
        assert_eq!(code(&place.roots, asked), Err(expected), "{asked:?}");
    }
    let round = code(&place.roots, "round");
    assert!(matches!(round, Err(ErrorCode::FileNotFound | ErrorCode::OutsideRoots)), "{round:?}");
    let devices = Roots::new(&[PathBuf::from("/dev")], None, None).unwrap();
    assert_eq!(code(&devices, "null"), Err(ErrorCode::NotARegularFile));
}

#[test]
fn a_file_that_may_not_be_read_names_the_user() {
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root may read everything");
        return;
    }
    let place = place();
    let path = place.dir.path().join("root/file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let refused = place.roots.open(Some("file")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::PermissionDenied);
    assert!(refused.message.contains("user id"));
}

#[test]
fn the_one_file_may_leave_and_nothing_beside_it() {
    let place = place();
    let secret = place.dir.path().join("outside/secret");
    let only = Roots::new(&[], Some(secret.clone()), None).unwrap();
    assert_eq!(only.open(None).unwrap().name, "secret");
    assert_eq!(code(&only, &secret.display().to_string()), Ok("secret".to_owned()));
    assert_eq!(code(&only, "secret"), Err(ErrorCode::OutsideRoots));
    assert_eq!(code(&only, "/etc/passwd"), Err(ErrorCode::OutsideRoots));
    assert_eq!(place.roots.open(None).unwrap_err().code, ErrorCode::NoDefaultFile);
    let absent = Roots::new(&[], Some(place.dir.path().join("absent")), None).unwrap();
    assert_eq!(absent.open(None).unwrap_err().code, ErrorCode::FileNotFound);
    let folder = Roots::new(&[], Some(place.dir.path().join("root")), None).unwrap();
    assert_eq!(folder.open(None).unwrap_err().code, ErrorCode::IsADirectory);
    let pipe = Roots::new(&[], Some(place.dir.path().join("root/pipe")), None).unwrap();
    assert_eq!(pipe.open(None).unwrap_err().code, ErrorCode::NotARegularFile);
}

#[test]
fn a_file_over_the_limit_stays() {
    let place = place();
    let small = Roots::new(&[place.dir.path().join("root")], None, Some(8)).unwrap();
    let refused = small.open(Some("file")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::FileTooLarge);
    assert!(refused.message.contains("--max-file-size"));
}

/// The place with a rule, and what it denies by name, by symlink and by nothing at all.
fn place_that_denies(rules: &[&str]) -> Place {
    let mut place = place();
    let mut deny = Deny::default();
    for rule in rules {
        deny.add(rule).unwrap();
    }
    place.roots = place.roots.with(deny, false, Symlinks::Follow);
    place
}

#[test]
fn what_is_denied_stays_by_every_way_to_it_and_the_rule_is_named() {
    let place = place_that_denies(&["deep", "second-*/x"]);
    let base = place.dir.path().join("root");
    for asked in [
        "sub/deep",
        "sub/DEEP",
        "./sub//deep",
        "inner",
        "sub/../sub/deep",
        &base.join("sub/deep").display().to_string(),
    ] {
        let refused = place.roots.open(Some(asked)).unwrap_err();
        // In other letters it is another file here, and denied by its name all the same.
        assert_eq!(refused.code, ErrorCode::DeniedByPolicy, "{asked}");
        assert!(refused.message.contains("deny \"deep\"") && refused.retry_after_ms.is_none(), "{refused}");
    }
    assert_eq!(code(&place.roots, "file"), Ok("file".to_owned()));
}

#[test]
fn a_denied_file_is_answered_alike_whether_it_exists_or_not() {
    let place = place_that_denies(&["*.key"]);
    std::fs::write(place.dir.path().join("root/there.key"), "key").unwrap();
    let message = |asked: &str| {
        let refused = place.roots.open(Some(asked)).unwrap_err();
        (refused.code, refused.message.replace(asked, ""))
    };
    assert_eq!(message("there.key"), message("absent.key"));
    assert_eq!(message("there.key/below"), message("absent/absent.key"));
    assert_eq!(message("there.key").0, ErrorCode::DeniedByPolicy);
    let place = place_that_denies(&["private/**"]);
    std::fs::create_dir_all(place.dir.path().join("root/private/deep")).unwrap();
    for asked in ["private/deep/../../file", "private/absent/../../file", "sub/../private/deep/../../file"] {
        assert_eq!(code(&place.roots, asked), Err(ErrorCode::DeniedByPolicy), "{asked}");
    }
    assert_eq!(code(&place.roots, "sub/../file"), Ok("file".to_owned()));
}

#[test]
fn a_deny_rule_holds_for_the_one_file_too() {
    let place = place();
    let secret = place.dir.path().join("outside/secret");
    let mut deny = Deny::default();
    deny.add("secret").unwrap();
    let only = Roots::new(&[], Some(secret.clone()), None).unwrap().with(deny, false, Symlinks::Follow);
    assert_eq!(only.open(None).unwrap_err().code, ErrorCode::DeniedByPolicy);
    assert_eq!(code(&only, &secret.display().to_string()), Err(ErrorCode::DeniedByPolicy));
}

#[test]
fn a_file_of_several_names_stays_unless_that_is_allowed() {
    let place = place();
    std::fs::hard_link(place.dir.path().join("outside/secret"), place.dir.path().join("root/disguise"))
        .unwrap();
    assert_eq!(code(&place.roots, "disguise"), Err(ErrorCode::HardLinked));
    let allowed = place.roots.with(Deny::default(), true, Symlinks::Follow);
    assert_eq!(code(&allowed, "disguise"), Ok("disguise".to_owned()));
}

#[test]
fn a_swap_between_look_and_open_never_gives_a_byte_of_the_secret() {
    let place = place();
    let root = place.dir.path().join("root");
    std::fs::write(root.join("swapped"), "harmless").unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let (mut given, mut led_out) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A file and a folder take turns with symlinks that lead out.
            for turn in 0..5_000 {
                for (name, to, kept) in
                    [("swapped", "../outside/secret", "file"), ("sub", "../outside", "sub")]
                {
                    let fresh = root.join(format!("fresh-{turn}"));
                    symlink(to, &fresh).unwrap();
                    let aside = root.join(format!("aside-{kept}"));
                    std::fs::rename(root.join(name), &aside).unwrap();
                    std::fs::rename(&fresh, root.join(name)).unwrap();
                    std::fs::remove_file(root.join(name)).unwrap();
                    std::fs::rename(&aside, root.join(name)).unwrap();
                }
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            for asked in ["swapped", "sub/deep", "sub/secret"] {
                let opened = place.roots.open(Some(asked));
                given += usize::from(opened.is_ok());
                led_out += usize::from(opened.as_ref().is_err_and(|it| it.code == ErrorCode::OutsideRoots));
                if let Ok(opened) = opened {
                    let text = std::io::read_to_string(opened.file).unwrap();
                    assert!(!text.contains("secret"), "{asked} gave {text:?}");
                }
            }
        }
    });
    assert!(given > 0 && led_out > 0, "the race was never run: {given} {led_out}");
}

#[test]
fn magic_links_and_devices_lead_nowhere() {
    let proc = Roots::new(&[PathBuf::from("/proc")], None, None).unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(secret.as_file());
    for asked in [
        concat!("self/", "root", "/etc/passwd"),
        &format!("self/fd/{fd}"),
        "self/cwd/Cargo.toml",
        "self/exe",
        concat!("thread-self/", "root", "/etc/passwd"),
    ] {
        assert!(code(&proc, asked).is_err(), "{asked}");
    }
    let dev = Roots::new(&[PathBuf::from("/dev")], None, None).unwrap();
    for asked in ["null", "zero", "tty", "fd/0", "stdin"] {
        assert!(code(&dev, asked).is_err(), "{asked}");
    }
}

#[test]
fn a_site_may_refuse_symlinks_and_tells_nothing_of_where_they_lead() {
    let mut place = place();
    place.roots = place.roots.with(Deny::default(), false, Symlinks::Refuse);
    let message = |asked: &str| {
        let refused = place.roots.open(Some(asked)).unwrap_err();
        (refused.code, refused.message.replace(asked, ""))
    };
    let first = message("escape");
    assert_eq!(first.0, ErrorCode::DeniedByPolicy);
    assert!(first.1.contains("symlinks = \"refuse\""), "{}", first.1);
    for asked in ["escape-absent", "escape-absolute", "escape-dir/secret", "inner", "to-odd", "round"] {
        assert_eq!(message(asked), first, "{asked}");
    }
    assert_eq!(code(&place.roots, "sub/deep"), Ok("deep".to_owned()));
}

#[test]
fn where_nobody_can_say_where_a_file_is_a_deny_rule_refuses_it() {
    let place = place_that_denies(&["*.key"]);
    let refused = place.roots.may_be_there(Some("file"), "file", None).unwrap_err();
    assert_eq!(refused.code, ErrorCode::DeniedByPolicy);
    let somewhere = place.dir.path().join("root/a.key");
    assert!(place.roots.may_be_there(Some("file"), "file", Some(&somewhere)).is_err());
    let free = Roots::default();
    assert_eq!(free.may_be_there(Some("file"), "file", None), Ok(()));
}

#[test]
fn a_file_that_is_replaced_while_it_is_opened_is_asked_for_again() {
    let place = place_that_denies(&["a.key"]);
    let path = place.dir.path().join("root/a.key");
    std::fs::write(&path, "key").unwrap();
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    // The system calls it "a.key (deleted)" now, which no rule is about.
    let resolved = platform::resolved_path(&file).unwrap();
    assert_eq!(place.roots.may_be_there(Some("a.key"), "a.key", Some(&resolved)), Ok(()));
    let links = platform::links(&file.metadata().unwrap());
    let refused = place.roots.has_one_name("a.key", links).unwrap_err();
    assert_eq!((refused.code, refused.retry_after_ms), (ErrorCode::ReadFailed, Some(1_000)));
}

#[test]
fn a_file_that_got_another_name_since_may_not_go_on() {
    let place = place();
    let path = place.dir.path().canonicalize().unwrap().join("root/file");
    assert_eq!(place.roots.still(&path, 9, 1), Ok(()));
    assert_eq!(place.roots.still(&path, 9, 2).unwrap_err().code, ErrorCode::HardLinked);
    assert_eq!(place.roots.still(&path, 9, 0), Ok(()), "one that was removed since is read to its end");
    let allowed = place.roots.with(Deny::default(), true, Symlinks::Follow);
    assert_eq!(allowed.still(&path, 9, 2), Ok(()));
}
