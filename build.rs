//! Notes the commit, the compiler and the profile this program is built with; results carry them.

use std::env;
use std::process::Command;

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    println!("cargo:rustc-env=OTELBENCH_GIT={}", said("git", &["rev-parse", "--short=12", "HEAD"]));
    println!("cargo:rustc-env=OTELBENCH_RUSTC={}", said(&rustc, &["--version"]));
    println!("cargo:rustc-env=OTELBENCH_PROFILE={}", env::var("PROFILE").unwrap_or_default());
    // The commit changes with HEAD or with the branch it names. A path that does not exist would rerun this always.
    for path in [".git/HEAD", ".git/refs/heads"] {
        if std::path::Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
}

/// What a command prints, or nothing when it fails: a build from an archive has no git.
fn said(command: &str, args: &[&str]) -> String {
    match Command::new(command).args(args).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => String::new(),
    }
}
