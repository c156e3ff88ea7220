//! The program two-tier: its arguments and its exit status. All else is in the library.

use std::env;
use std::process::ExitCode;

use two_tier::one_line;

/// A setting or an argument cannot be used.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => two_tier::run()
            .map_or_else(|error| fail(&one_line(&error), EXIT_USAGE), |()| ExitCode::SUCCESS),
        ["--help" | "-h"] => {
            print!("{}", two_tier::help());
            ExitCode::SUCCESS
        }
        ["--version" | "-V"] => {
            println!("{}", two_tier::version());
            ExitCode::SUCCESS
        }
        ["healthcheck"] => match two_tier::healthcheck() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("not ready: {}", one_line(&*error)), 1),
        },
        _ => fail(
            "arguments: two-tier takes --help, --version or healthcheck; its settings are environment variables",
            EXIT_USAGE,
        ),
    }
}

fn fail(message: &str, status: u8) -> ExitCode {
    eprintln!("two-tier: {message}");
    ExitCode::from(status)
}
