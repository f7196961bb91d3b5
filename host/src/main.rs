//! The `weir` program: the library's command line, nothing else.

fn main() -> std::process::ExitCode {
    weir::cli::main()
}
