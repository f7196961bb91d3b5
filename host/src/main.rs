//! The `weir` program: the library's command line, nothing else.

fn main() -> std::process::ExitCode {
    weir::plugin::this_is_weir();
    weir::cli::main()
}
