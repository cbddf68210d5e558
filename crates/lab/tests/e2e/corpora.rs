//! What fuzzing found worth keeping is replayed by every run of the tests, with nothing but cargo.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hoist_lab::fuzz;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Gives the names in a folder, without the end that all of them have.
fn names(folder: &Path, end: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    entries.map(|entry| name(entry).strip_suffix(end).expect("a name that ends so").to_owned()).collect()
}

#[test]
fn every_fuzz_target_has_its_program_and_a_corpus_that_breaks_nothing() {
    let targets: BTreeSet<String> = fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder().join("fuzz_targets"), ".rs"), targets);
    assert_eq!(names(&folder().join("corpus"), ""), targets);
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for target in &targets {
        let named = format!("name = \"{target}\"");
        assert!(manifest.contains(&named), "cargo-fuzz does not know {target}");
        let corpus = folder().join("corpus").join(target);
        let inputs = names(&corpus, "");
        assert!(inputs.len() >= 5, "the corpus of {target} has {} inputs", inputs.len());
        for input in inputs {
            // The last line before a panic names the input.
            println!("{target}/{input}");
            fuzz::run(target, &std::fs::read(corpus.join(input)).unwrap());
        }
    }
}
