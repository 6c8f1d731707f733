//! The command: text in, text out. Each subcommand parses, calls and renders; deciding and acting are absent.
fn main() {}
