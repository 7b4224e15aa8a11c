//! Builds the XDP programs, so that plain `cargo build` does, and takes in the library
//! that draws graphs.
//!
//! They are for another target, for which `core` has to be built from
//! source: the pinned stable compiler does that when told that it may
//! (`RUSTC_BOOTSTRAP`, for this one child). aya-build would do the same with
//! a nightly compiler, and for a package of this workspace only.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The protocol core has no XDP program.
    if env::var_os("CARGO_FEATURE_OS").is_none() {
        return;
    }
    if let Err(error) = build().and_then(|()| drawing()) {
        for line in error.lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let root = path("CARGO_MANIFEST_DIR")?
        .parent()
        .ok_or("XDP program: this package has no parent folder; build it inside its repository")?
        .to_path_buf();
    let out = path("OUT_DIR")?;
    let program = root.join("insession-ebpf");
    for source in [
        "Cargo.toml",
        "rust-toolchain.toml",
        "insession-common/Cargo.toml",
        "insession-common/src",
        "insession-ebpf/Cargo.toml",
        "insession-ebpf/Cargo.lock",
        "insession-ebpf/src",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let sysroot = complete_toolchain()?;

    let target = match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    // A folder of its own: the outer cargo holds the lock of its own one.
    let folder = out.join("ebpf");
    let mut cargo = Command::new(path("CARGO")?);
    without_the_outer_build(&mut cargo);
    let output = cargo
        .current_dir(&program)
        .env("RUSTC_BOOTSTRAP", "1")
        // BTF is made of debug information; maps, constants and (in the
        // verifier's log) source lines are known by it.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            "-Cdebuginfo=2\u{1f}-Clink-arg=--btf",
        )
        .env("LD_LIBRARY_PATH", library_path(&sysroot)?)
        .args(["build", "--quiet", "--locked", "--release"])
        .args(["-Z", "build-std=core", "--target", target, "--target-dir"])
        .arg(&folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("XDP program: cargo cannot be started: {error}; check PATH"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!(
            "XDP program: it does not build; run `RUSTC_BOOTSTRAP=1 cargo build --release -Z build-std=core --target {target}` in insession-ebpf\n{said}"
        ));
    }
    let mut lines = said.lines().map(str::trim_start);
    if let Some(line) = lines.find(|line| line.starts_with("warning")) {
        println!("cargo::warning=XDP program: {line}");
    }

    for (binary, object) in [
        ("insession-ebpf", "insession.bpf.o"),
        ("reflector", "reflector.bpf.o"),
    ] {
        let built = folder.join(target).join("release").join(binary);
        std::fs::copy(&built, out.join(object)).map_err(|error| {
            format!(
                "XDP program: {} cannot be copied: {error}; remove the target folder and build again",
                built.display()
            )
        })?;
    }
    Ok(())
}

/// The library that draws the page of `insession graph`, and its licence, from where
/// `cargo xtask setup` puts them: beside what cargo builds.
fn drawing() -> Result<(), String> {
    let out = path("OUT_DIR")?;
    let mut folders = out.ancestors().skip(1).map(|folder| folder.join("drawing"));
    let folder = folders.find(|folder| folder.join("installed").is_file()).ok_or(
        "drawing: d3, the library that draws graphs, is not below the target folder; `cargo xtask setup` installs it",
    )?;
    for (file, name) in [("d3.min.js", "d3.min.js"), ("LICENSE", "d3.licence")] {
        let from = folder.join(file);
        println!("cargo::rerun-if-changed={}", from.display());
        std::fs::copy(&from, out.join(name)).map_err(|error| {
            format!(
                "drawing: {} cannot be copied: {error}; remove its folder and run `cargo xtask setup`",
                from.display()
            )
        })?;
    }
    Ok(())
}

/// The compiler's sysroot, if what a stock Rust toolchain lacks is there. Asked
/// first, because cargo's and rustc's own messages do not say how to get it.
fn complete_toolchain() -> Result<PathBuf, String> {
    let mut missing = Vec::new();
    let linker = Command::new("bpf-linker")
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    if !linker.is_ok_and(|output| output.status.success()) {
        missing.push("bpf-linker is not on PATH");
    }
    let rustc = path("RUSTC")?;
    let sysroot = Command::new(&rustc)
        .args(["--print", "sysroot"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            format!(
                "XDP program: {} cannot be started: {error}; check PATH",
                rustc.display()
            )
        })?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    let sources = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    if !sources.is_file() {
        missing.push("rust-src (the standard library's source) is not in the toolchain");
    }
    if missing.is_empty() {
        return Ok(sysroot);
    }
    Err(format!(
        "XDP program: {}; `cargo xtask setup` installs it",
        missing.join(", and ")
    ))
}

/// Takes out of the child's environment what is meant for the outer build:
/// its flags (host linkers, sanitizers), wrappers (clippy's driver), profiles,
/// target and folders, and what it told this script about this package. Left
/// are where cargo lives, its network settings and the job server.
fn without_the_outer_build(cargo: &mut Command) {
    const KEPT: &[&str] = &[
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let cargos = (text.starts_with("CARGO_") || text == "CARGO")
            && !KEPT.iter().any(|kept| text.starts_with(kept));
        let compilers = ["RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTDOCFLAGS", "CLIPPY_"]
            .iter()
            .any(|start| text.starts_with(start));
        if cargos || compilers {
            cargo.env_remove(&name);
        }
    }
    // The very compiler of the outer build, whatever PATH says.
    if let Some(rustc) = env::var_os("RUSTC") {
        cargo.env("RUSTC", rustc);
    }
}

/// bpf-linker has no LLVM of its own, it loads rustc's. cargo sets this for
/// build scripts; a wrapper between may not have kept it.
fn library_path(sysroot: &Path) -> Result<OsString, String> {
    let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let paths = env::split_paths(&before).chain([sysroot.join("lib")]);
    env::join_paths(paths.filter(|path| !path.as_os_str().is_empty()))
        .map_err(|error| format!("XDP program: {error}; move the toolchain to another folder"))
}

fn path(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("XDP program: {variable} is not set; build with cargo"))
}
