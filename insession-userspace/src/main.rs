//! The `insession` command: everything is in [`insession::cli`].

fn main() -> std::process::ExitCode {
    insession::cli::main()
}
