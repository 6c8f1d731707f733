//! `cargo xtask release`: the binary as it ships, with its size and digest.
//!
//! Signing and publishing are absent: they need a person and a key.

use crate::failure::Failure;
use crate::process;

/// The task's help.
pub const HELP: &str = "\
Usage: cargo xtask release

Builds `polder` in the profile `dist` from the committed lock file, then prints
the binary's path, its size and its SHA-256 digest. Publishes nothing.

Example:
  cargo xtask release
";

/// Builds and describes the binary.
pub fn task(args: &[String]) -> Result<(), Failure> {
    if let Some(arg) = args.first() {
        return Err(Failure::usage(format!("release takes no `{arg}`"), "run `cargo xtask release`"));
    }
    let root = process::root()?;
    process::run(process::cargo(&root).args(["build", "--profile", "dist", "--locked", "--workspace", "--bins"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let binary = root.join(target).join("dist").join(format!("polder{}", std::env::consts::EXE_SUFFIX));
    let size = std::fs::metadata(&binary).map_err(|error| {
        Failure::new(format!("`{}` cannot be read: {error}", binary.display()), "look where cargo put the binary")
    })?;
    println!("{} ({} bytes)", binary.display(), size.len());
    print!("{}", process::capture(std::process::Command::new("sha256sum").arg(&binary))?);
    Ok(())
}
