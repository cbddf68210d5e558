#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_lab::fuzz::run("policy", bytes));
