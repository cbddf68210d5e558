//! The house as DESIGN draws it: who may depend on whom, and how much the agent carries.

use std::collections::{BTreeMap, BTreeSet};
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
