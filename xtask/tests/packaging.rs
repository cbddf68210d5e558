//! What is installed says what the programs say: settings, images, the unit of the agent.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The settings that operators of this system know, whichever crate reads them.
const PROMISED: &str = "SERVER_HOST SERVER_PORT AWS_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_ENDPOINT_URL \
    S3_BUCKET_NAME S3_CHUNK_SIZE S3_PRESIGNED_URL_EXPIRY JWT_SECRET JWT_SECRET_PREVIOUS JWT_EXPIRY CLIENT_ID CLIENT_TOKEN \
    SERVER_WS_URL FILE_PATH LOG_LEVEL DATABASE_URL DATA_DIR SERVER_URL OPERATOR_TOKEN CLIENT_TOKEN_FILE S3_SSE \
    S3_PUBLIC_ENDPOINT_URL S3_DOWNLOAD_ENDPOINT_URL S3_KEY_PREFIX S3_CREATE_BUCKET ALLOW_UNPROVEN MAX_OPEN_PER_CLIENT \
    AGENT_ROOTS AGENT_SLOTS EXTRA_CA_FILE MAX_FILE_SIZE MAX_PARTS_IN_FLIGHT MAX_RATE ON_CHANGE ALLOW_PLAIN_STORAGE \
    AGENT_KEY_FILE ALLOW_PLAIN_SERVER AUDIT_STDOUT CLIENT_CERT_FILE CLIENT_KEY_FILE ENROLL_TOKEN MAX_LINKS_PER_ADDRESS \
    MAX_MEMORY MAX_STRANGERS_PER_ADDRESS RETAIN_AUDIT RETAIN_DOWNLOADS TLS_CERT_FILE TLS_CLIENT_CA_FILE TLS_KEY_FILE \
    TRUSTED_PROXIES ALLOW_PRIVATE_STORAGE POLICY_FILE";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Gives the settings of `.env.example` with the values shown; all of them stand behind a `#`.
fn example() -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for line in read(".env.example").lines().filter(|line| !line.is_empty()) {
        let line = line.strip_prefix('#').unwrap_or_else(|| panic!("{line:?} is in force"));
        let Some((name, value)) = line.split_once('=') else { continue };
        if name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') {
            assert!(
                settings.insert(name.to_owned(), value.to_owned()).is_none(),
                "{name} stands there twice"
            );
        }
    }
    settings
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Gives the text between `start` and the next `end`.
fn between<'a>(text: &'a str, start: &str, end: char) -> Option<&'a str> {
    text.split_once(start)?.1.split(end).next()
}

/// Finds the settings that the programs read, with their defaults where the code has one beside the name.
fn in_code() -> BTreeMap<String, Option<String>> {
    let mut texts = Vec::new();
    for program in ["server", "agent", "cli"] {
        sources(&root().join("crates").join(program).join("src"), &mut texts);
    }
    let mut settings = BTreeMap::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        if let Some(name) = between(line, "env = \"", '"') {
            let text = between(line, "default_value = \"", '"').map(str::to_owned);
            let number = between(line, "default_value_t = ", ',').map(|n| n.replace([')', ']', '_'], ""));
            settings.insert(name.to_owned(), text.or(number));
        }
        for start in ["settings::text(\"", "settings::secret(\""] {
            if let Some(name) = between(line, start, '"') {
                settings.entry(name.to_owned()).or_insert(None);
            }
        }
    }
    settings
}

#[test]
fn the_example_names_every_setting_and_no_other() {
    let known: BTreeSet<String> =
        PROMISED.split_whitespace().map(str::to_owned).chain(in_code().into_keys()).collect();
    let shown: BTreeSet<String> = example().into_keys().collect();
    assert_eq!(known.difference(&shown).collect::<Vec<_>>(), [] as [&String; 0], "not in .env.example");
    assert_eq!(shown.difference(&known).collect::<Vec<_>>(), [] as [&String; 0], "read by nobody");
    assert!(in_code().contains_key("OPERATOR_TOKEN"), "the search finds what the code reads");
}

#[test]
fn the_example_shows_the_defaults_of_the_code() {
    let shown = example();
    for (name, default) in in_code() {
        if let Some(default) = default {
            assert_eq!(shown[&name], default, "{name}");
        }
    }
}

#[test]
fn the_example_has_no_secret() {
    let secret = |name: &str| {
        (name.contains("SECRET") || name.contains("TOKEN") || name.contains("KEY_ID"))
            && !name.ends_with("_FILE")
    };
    let secrets: Vec<_> = example().into_iter().filter(|(name, _)| secret(name)).collect();
    assert!(secrets.len() >= 6, "{secrets:?}");
    assert!(secrets.iter().all(|(_, value)| value.is_empty()), "{secrets:?}");
}

#[test]
fn compose_sets_what_is_known_and_asks_for_secrets() {
    let text = read("docker-compose.yml");
    let (_, ours) = text.split_once("\n  server:\n").unwrap();
    let shown = example();
    let names = ours.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("      ")?.split_once(": ")?;
        (name.len() > 2 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'))
            .then_some(name)
    });
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 15 && names.iter().all(|name| shown.contains_key(*name)), "{names:?}");
    for name in ["JWT_SECRET", "CLIENT_TOKEN"] {
        let wanted = format!("{name}: \"${{{name}:?is not set, ");
        assert!(text.contains(&wanted), "{name} has a default or none");
    }
    assert!(!text.lines().any(|line| line.starts_with("name:")), "docker-compose 1.29 has no top-level name");
}

#[test]
fn images_run_their_programs_as_process_1_and_not_as_root() {
    let text = read("Dockerfile");
    assert!(!text.contains("syntax="));
    assert!(text.contains("\nUSER hoist\n"));
    for (target, program) in [("agent", "hoist-agent"), ("cli", "hoist"), ("server", "hoist-server")] {
        let (_, stage) = text.split_once(&format!("\nFROM base AS {target}\n")).unwrap();
        let stage = stage.split("\nFROM ").next().unwrap();
        assert!(stage.contains(&format!("\nENTRYPOINT [\"/usr/local/bin/{program}\"]\n")), "{target}");
        assert!(!stage.contains("USER"), "{target} changes its user");
    }
}

#[test]
fn the_unit_of_the_agent_is_accepted_without_a_word() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    }
    let folder = std::env::temp_dir().join(format!("hoist-unit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let unit = folder.join("hoist-agent.service");
    // The program need not be installed here.
    let text = read("packaging/hoist-agent.service").replace("=/usr/local/bin/hoist-agent\n", "=/bin/true\n");
    assert!(text.contains("\nExecStart=/bin/true\n"));
    std::fs::write(&unit, text).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&unit).output().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    // It ends with 0 also when it warns.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// Another maker's reading of the file, where there is one.
#[test]
fn compose_reads_its_file() {
    let there = Command::new("docker-compose").arg("version").output().is_ok();
    if !there {
        eprintln!("skipped: docker-compose is not installed");
        return;
    }
    // Not the .env of whoever runs this.
    let none = std::env::temp_dir().join(format!("hoist-compose-{}.env", std::process::id()));
    std::fs::write(&none, "").unwrap();
    let config = |secret: Option<&str>| {
        let mut command = Command::new("docker-compose");
        command.args(["-f", "docker-compose.yml", "--env-file"]).arg(&none).arg("config").current_dir(root());
        command.env_remove("JWT_SECRET").env("CLIENT_TOKEN", "-");
        command.envs(secret.map(|secret| ("JWT_SECRET", secret))).output().unwrap()
    };
    let good = config(Some("x"));
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    let bad = config(None);
    std::fs::remove_file(&none).unwrap();
    assert!(!bad.status.success() && String::from_utf8_lossy(&bad.stderr).contains("JWT_SECRET"));
}
