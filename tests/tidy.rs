//! Rules about the source tree that a compiler does not check: file lengths, who may name wgpu or read the environment,
//! which layers are pure, and that every shader has its kernel. No device, no I/O beyond reading the tree.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir` with this extension, as (path from the root, text).
fn files(dir: &str, ext: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root().join(dir)];
    while let Some(d) = open.pop() {
        let Ok(entries) = fs::read_dir(&d) else { continue };
        for path in entries.flatten().map(|e| e.path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == ext) {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{ext} files under {dir}: the test looks in the wrong place");
    found
}

fn rust() -> Vec<(String, String)> {
    ["src", "tests", "examples", "benches"].iter().flat_map(|d| files_or_none(d)).collect()
}

fn files_or_none(dir: &str) -> Vec<(String, String)> {
    let has_rust = |d: fs::ReadDir| d.flatten().any(|e| e.path().extension().is_some_and(|x| x == "rs"));
    if dir == "src" || fs::read_dir(root().join(dir)).is_ok_and(has_rust) { files(dir, "rs") } else { Vec::new() }
}

/// Lines below the directories that `of` accepts whose code (not comment) contains one of `words`.
fn offenders(of: impl Fn(&str) -> bool, words: &[&str]) -> Vec<String> {
    let mut bad = Vec::new();
    for (name, text) in rust().iter().filter(|(n, _)| of(n)) {
        for (i, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if let Some(word) = words.iter().find(|w| code.contains(**w)) {
                bad.push(format!("{name}:{}: {word}", i + 1));
            }
        }
    }
    bad
}

#[track_caller]
fn none(bad: Vec<String>) {
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn files_are_short() {
    let limit = |files: Vec<(String, String)>, most: usize| {
        files.into_iter().map(|(n, t)| (n, t.lines().count())).filter(move |(_, lines)| *lines > most)
    };
    let long = limit(rust(), 500).chain(limit(files("shaders", "wgsl"), 300));
    none(long.map(|(name, lines)| format!("{name}: {lines} lines")).collect());
}

#[test]
fn only_the_gpu_backend_names_wgpu() {
    none(offenders(|n| n.starts_with("src/") && !n.starts_with("src/backend/gpu/"), &["wgpu::"]));
}

#[test]
fn only_config_reads_the_environment() {
    none(offenders(|n| n.starts_with("src/") && n != "src/config.rs", &["env::var"]));
}

#[test]
fn the_upper_layers_are_pure() {
    let pure = ["src/ir/", "src/grad/", "src/passes/", "src/plan/"];
    let words = ["std::fs", "std::io", "std::time", "thread_local!", "static mut", "OnceLock", "println!"];
    none(offenders(|n| pure.iter().any(|p| n.starts_with(p)), &words));
}

#[test]
fn every_shader_has_its_kernel() {
    let kernels = files("src/backend/gpu/kernels", "rs");
    let mut bad = Vec::new();
    for (name, text) in files("shaders", "wgsl") {
        let stem = name.trim_start_matches("shaders/").trim_end_matches(".wgsl");
        if stem.starts_with("common/") && text.contains("@compute") {
            bad.push(format!("{name}: a common piece has no entry point"));
        }
        if !kernels.iter().any(|(_, rust)| rust.contains(&format!("{stem}.wgsl"))) {
            bad.push(format!("{name}: no kernel includes it"));
        }
        if !text.starts_with("//") {
            bad.push(format!("{name}: opens without a comment that says what it is"));
        }
    }
    none(bad);
}

#[test]
fn files_say_what_they_are() {
    none(files("src", "rs").into_iter().filter(|(_, t)| !t.starts_with("//!")).map(|(n, _)| n).collect());
}

#[test]
fn nothing_is_left_undone_in_silence() {
    // Assembled here, so that this file does not contain the words itself.
    let words =
        [["#[ign", "ore"].concat(), ["todo", "!("].concat(), ["unimplemented", "!("].concat(), ["dbg", "!("].concat()];
    none(offenders(|_| true, &words.each_ref().map(String::as_str)));
}
