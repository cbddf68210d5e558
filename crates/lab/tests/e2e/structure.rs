//! The house as DESIGN draws it: who may depend on whom, and how much the agent carries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Most packages in the agent's closure, itself included.
const AGENT_BUDGET: usize = 150;

/// Which of our crates each may use: `wire <- engine <- {agent, server}; wire <- cli; depot <- server`, and lab all.
const ARROWS: &[(&str, &[&str])] = &[
    ("hoist-wire", &[]),
    ("hoist-depot", &[]),
    ("hoist-engine", &["hoist-wire"]),
    ("hoist-agent", &["hoist-wire", "hoist-engine"]),
    ("hoist-server", &["hoist-wire", "hoist-engine", "hoist-depot"]),
    ("hoist", &["hoist-wire"]),
    ("hoist-lab", &["hoist-wire", "hoist-agent", "hoist-server", "hoist-depot"]),
    ("xtask", &["hoist-wire"]),
];

fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_arrow_points_as_drawn() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--no-deps"])).unwrap();
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        // Normal, dev and build dependencies alike; ours are those that are named by a path.
        let ours = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["path"].is_string());
        let names = ours.map(|dependency| dependency["name"].as_str().unwrap()).collect();
        found.insert(package["name"].as_str().unwrap(), names);
    }
    let drawn: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(name, may)| (*name, may.iter().copied().collect())).collect();
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        drawn.keys().collect::<Vec<_>>(),
        "a crate is not in the drawing"
    );
    for (name, uses) in &found {
        let wrong: Vec<_> = uses.difference(&drawn[name]).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
}

/// Gives the text of every test's source file.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|end| end == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Holds the tests that a page's table names in its last column against those that there are.
fn every_row_has_its_test(page: &str, at_least: usize) {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(crates.join("../docs").join(page)).unwrap();
    let rows: Vec<&str> = text
        .split_once("| shown by |")
        .map_or("", |(_, table)| table)
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert!(rows.len() >= at_least, "the table of {page} was not found: {} rows", rows.len());
    let mut text = String::new();
    sources(crates, &mut text);
    for row in rows {
        let shown_by = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let tests: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "nothing shows {row:?}");
        for test in tests {
            let is_there =
                text.contains(&format!("fn {test}()")) || crates.join("lab/tests").join(test).is_dir();
            assert!(is_there, "no test is called {test:?}");
        }
    }
}

#[test]
fn every_fault_that_is_documented_has_its_test() {
    every_row_has_its_test("reliability.md", 31);
}

#[test]
fn every_defence_that_is_documented_has_its_test() {
    every_row_has_its_test("security.md", 20);
}

#[test]
fn the_agent_carries_no_more_than_its_budget() {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--package=hoist-agent",
        "--edges=normal",
        "--target=x86_64-unknown-linux-gnu",
        "--prefix=none",
        "--no-dedupe",
        "--format={p}",
    ]);
    let packages: BTreeSet<&str> = tree
        .lines()
        .map(|line| line.split(" (").next().unwrap_or(line).trim())
        .filter(|line| !line.is_empty())
        .collect();
    println!("the agent's closure: {} packages of {AGENT_BUDGET}", packages.len());
    assert!(packages.iter().any(|package| package.starts_with("tokio ")), "no tree was read:\n{tree}");
    assert!(packages.len() <= AGENT_BUDGET, "{} packages:\n{packages:#?}", packages.len());
    for foreign in ["aws-sdk-s3", "axum", "sqlx", "openssl-sys", "reqwest"] {
        let inside = packages.iter().any(|package| package.starts_with(&format!("{foreign} ")));
        assert!(!inside, "the agent carries {foreign}");
    }
}
