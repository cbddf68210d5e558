//! The real binary: what it says of bad settings, and how it stops.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;

fn agent(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoist-agent"));
    let dir = std::env::temp_dir();
    command.env_clear().current_dir(dir).stderr(Stdio::piped()).stdout(Stdio::piped());
    command.envs(settings.iter().copied());
    command
}

fn token() -> String {
    let claims = br#"{"sub":"site-1","aud":"hoist-agent","exp":9,"iat":1,"jti":"secret-jti"}"#;
    format!("e30.{}.signature", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn a_bad_setting_stops_the_start_and_names_itself() {
    let token = token();
    let good = [("CLIENT_TOKEN", token.as_str()), ("AGENT_ROOTS", "/tmp")];
    for (name, value) in [
        ("CLIENT_TOKEN", ""),
        ("CLIENT_ID", "another"),
        ("SERVER_WS_URL", "http://h"),
        ("AGENT_ROOTS", "/absent"),
        ("AGENT_ROOTS", ""),
        ("AGENT_SLOTS", "0"),
        ("MAX_PARTS_IN_FLIGHT", "many"),
        ("MAX_FILE_SIZE", "large"),
        ("ON_CHANGE", "perhaps"),
        ("MAX_FILE_SIZE", "0"),
        ("LOG_LEVEL", "loud"),
        ("LOG_LEVEL", "warning,hoist_agent=debug"),
        ("ALLOW_PLAIN_STORAGE", "perhaps"),
        ("ALLOW_PRIVATE_STORAGE", "2"),
        ("EXTRA_CA_FILE", "/absent/ca.pem"),
    ] {
        let ended = agent(&good).env(name, value).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{name}={value}: {said}");
        let option = name.to_ascii_lowercase().replace('_', "-");
        // Nothing is left of the roots when they are empty, and the slots have a shorter option.
        assert!(said.contains(name) || said.contains(&option) || said.contains("--slots"), "{name}: {said}");
        assert!(!said.contains(&token), "{said}");
    }
}

#[test]
fn an_empty_setting_is_as_good_as_none() {
    let token = token();
    let mut command = agent(&[("CLIENT_TOKEN", token.as_str()), ("AGENT_ROOTS", "/absent")]);
    for name in ["SERVER_WS_URL", "AGENT_SLOTS", "MAX_PARTS_IN_FLIGHT", "MAX_FILE_SIZE", "LOG_LEVEL"] {
        command.env(name, "");
    }
    for name in ["CLIENT_ID", "CLIENT_TOKEN_FILE", "FILE_PATH", "EXTRA_CA_FILE", "ALLOW_PLAIN_STORAGE"] {
        command.env(name, "");
    }
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.contains("/absent"), "only the root is wrong: {said}");
}

#[test]
fn a_log_that_cannot_be_written_is_no_defect() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let token = token();
    let settings = [("CLIENT_TOKEN", token.as_str()), ("AGENT_ROOTS", "/absent")];
    for level in ["info", "loud"] {
        let ended = agent(&settings).env("LOG_LEVEL", level).stderr(full()).status().unwrap();
        assert_eq!(ended.code(), Some(2), "{level}");
    }
}

#[test]
fn an_env_file_is_that_of_this_folder_and_its_words_stay_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(folder.path().join(".env"), "A=b\r\n\r\nCLIENT_TOKEN=very secret words\r\n").unwrap();
    let run = |folder: &std::path::Path| {
        let ended = agent(&[]).current_dir(folder).output().unwrap();
        assert_eq!(ended.status.code(), Some(2));
        String::from_utf8(ended.stderr).unwrap()
    };
    let said = run(folder.path());
    assert!(said.contains(".env, line 3") && !said.contains("secret words"), "{said}");
    assert!(run(&inner).contains("no way in"), "the folders above have no say");
    std::fs::create_dir(inner.join(".env")).unwrap();
    let said = run(&inner);
    assert!(said.contains(".env cannot be read") && said.contains("directory"), "{said}");
}

#[test]
fn it_stops_within_a_second_of_a_signal_and_never_logs_its_token() {
    let token = token();
    let settings = [
        ("CLIENT_TOKEN", token.as_str()),
        ("AGENT_ROOTS", "/tmp"),
        ("SERVER_WS_URL", "ws://127.0.0.1:9"),
        ("LOG_LEVEL", "debug"),
    ];
    let mut child = agent(&settings).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("no link to the server") {
        assert!(log.read_line(&mut said).unwrap() > 0, "it ended: {said}");
    }
    assert!(said.contains("site-1") && said.contains("hoist-agent starts"), "{said}");
    let asked = Instant::now();
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert!(!said.contains(&token) && !said.contains("signature"), "{said}");
}
