//! Options from elsewhere than the command line, in one order of precedence:
//!
//! 1. the command line;
//! 2. the environment: `INSESSION_` and the option's long name, in capitals, with
//!    `_` for `-`: `INSESSION_ROUTER_RATE=200`;
//! 3. the file that `--config` names (or `INSESSION_CONFIG`): TOML, a table a
//!    subcommand, keys as the long names: `[run]`, `router-rate = 200`;
//! 4. the defaults.
//!
//! What a source says of an option replaces what a later one says, also where an
//! option may be given several times. It is done on clap's own definitions, so no
//! option can be forgotten: what the file says is put in front of the command line
//! as arguments, and checked as these are.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

use super::exit::Failure;

/// The option that names the file.
pub const OPTION: &str = "config";
/// The option that takes all others from a campaign: no file can say so, since then
/// they come from there and not from the file.
const RESUME: &str = "resume";
/// Positional arguments, where a file has them.
const WORDS: &str = "words";

/// Gives every option of a subcommand its variable in the environment.
#[must_use]
pub fn with_environment(command: Command) -> Command {
    command.mut_args(|option| match option.get_long() {
        Some("help" | "version" | "print-config" | "verbose") | None => option,
        Some(long) => {
            let name = format!("INSESSION_{}", long.replace('-', "_").to_uppercase());
            option.env(name).hide_env(true)
        }
    })
}

/// What else says something of a subcommand's options.
#[derive(Debug)]
pub struct Source {
    /// What it says.
    pub table: Table,
    /// Where it is from: `--config FILE`, `--resume DIR`.
    pub from: String,
    /// Ids of options that it has settled: the environment has no say in these, also
    /// where the table does not name them.
    pub settled: &'static [&'static str],
}

/// The table of a subcommand in a file.
///
/// # Errors
/// When it cannot be read, or has no such table.
pub fn read(file: &Path, subcommand: &str) -> Result<Table, Failure> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!(
            "--config {shown}: {error}; name a file that can be read"
        ))
    })?;
    let mut whole: Table = toml::from_str(&text).map_err(|error| {
        Failure::usage(format!(
            "--config {shown}: {}; write it as --print-config does",
            error.to_string().trim_end()
        ))
    })?;
    match whole.remove(subcommand) {
        Some(Value::Table(table)) => Ok(table),
        Some(_) => Err(Failure::usage(format!(
            "--config {shown}: {subcommand:?} is no table; write [{subcommand}]"
        ))),
        None => Ok(Table::new()),
    }
}

/// What a table is as arguments.
#[derive(Debug, Default)]
struct Words {
    /// To stand behind the subcommand.
    options: Vec<OsString>,
    /// To stand at the end.
    positional: Vec<OsString>,
}

/// What the options of `table` are as arguments, but for those that `given` has from
/// the command line or the environment; `from` is where the table comes from.
fn arguments(
    table: &Table,
    command: &Command,
    given: &ArgMatches,
    from: &str,
) -> Result<Words, Failure> {
    let mut arguments = Vec::new();
    let mut words = Vec::new();
    for (key, value) in table {
        let trouble =
            |reason: &str, mend: &str| Failure::usage(format!("{from}: {key:?}: {reason}; {mend}"));
        let option = command
            .get_arguments()
            .find(|option| name(option) == Some(key) && !matches!(key.as_str(), OPTION | RESUME))
            .ok_or_else(|| {
                trouble(
                    "no such option",
                    "the subcommand's --help lists those there are",
                )
            })?;
        let kept = match given.value_source(option.get_id().as_str()) {
            Some(ValueSource::CommandLine | ValueSource::EnvVariable) => continue,
            _ => texts(value).ok_or_else(|| {
                trouble(
                    "a value of this kind is none",
                    "write a string, a number, true or false, or a list of them",
                )
            })?,
        };
        if option.is_positional() {
            words = kept;
            continue;
        }
        match option.get_action() {
            ArgAction::SetTrue => match value {
                Value::Boolean(true) => arguments.push(format!("--{key}").into()),
                Value::Boolean(false) => {}
                _ => return Err(trouble("it is a switch", "write true or false")),
            },
            _ => arguments.extend(kept.iter().map(|text| format!("--{key}={text}").into())),
        }
    }
    Ok(Words {
        options: arguments,
        positional: words.into_iter().map(OsString::from).collect(),
    })
}

/// A command line, completed by what else says something of its subcommand.
#[derive(Debug)]
pub struct Line {
    /// All of it, as clap has it.
    pub matches: ArgMatches,
    /// What the command line and the environment alone say of the subcommand.
    pub given: ArgMatches,
    /// Where the rest is from: `--config FILE`, `--resume DIR`.
    pub from: Option<String>,
}

/// Completes the command line `words` by what `source` gives for its subcommand.
///
/// # Errors
/// When the source cannot be had, or what it says is wrong.
pub fn complete(
    root: &Command,
    words: &[OsString],
    source: impl FnOnce(&str, &ArgMatches) -> Result<Option<Source>, Failure>,
) -> Result<Line, Failure> {
    let matches = root.clone().get_matches_from(words);
    let Some((name, given)) = matches.subcommand() else {
        let given = ArgMatches::default();
        let from = None;
        return Ok(Line {
            matches,
            given,
            from,
        });
    };
    let (name, given) = (name.to_owned(), given.clone());
    let Some(Source {
        table,
        from,
        settled,
    }) = source(&name, &given)?
    else {
        let from = None;
        return Ok(Line {
            matches,
            given,
            from,
        });
    };
    let (root, given) = match settled {
        [] => (root.clone(), given),
        settled => {
            let root = without_environment(root, &name, settled);
            let matches = root.clone().get_matches_from(words);
            let given = matches.subcommand().map(|(_, given)| given.clone());
            (root, given.unwrap_or_default())
        }
    };
    let Some(command) = root.find_subcommand(&name) else {
        let from = None;
        return Ok(Line {
            matches,
            given,
            from,
        });
    };
    let more = arguments(&table, command, &given, &from)?;
    // The name of the subcommand is the first word that is no option nor its value.
    let behind = words
        .iter()
        .enumerate()
        .position(|(nth, word)| word == name.as_str() && !is_value(words, nth))
        .map_or(words.len(), |nth| nth + 1);
    let mut all = words.to_vec();
    all.splice(behind..behind, more.options);
    if !more.positional.is_empty() {
        all.push("--".into());
        all.extend(more.positional);
    }
    Ok(Line {
        matches: root.get_matches_from(all),
        given,
        from: Some(from),
    })
}

/// The same, where the environment has no say in these options of a subcommand.
fn without_environment(root: &Command, name: &str, ids: &[&str]) -> Command {
    root.clone().mut_subcommand(name, |command| {
        command.mut_args(|option| match ids.contains(&option.get_id().as_str()) {
            true => option.env(Resettable::Reset),
            false => option,
        })
    })
}

/// Whether a word is the value of the option before it: `--config` is the only one
/// that has a value and may stand before the subcommand.
fn is_value(words: &[OsString], nth: usize) -> bool {
    let before = nth.checked_sub(1).and_then(|nth| words.get(nth));
    before.is_some_and(|before| before == "--config")
}

/// The options as they are, as lines of a file, each with where it is from.
#[must_use]
pub fn print(name: &str, command: &Command, line: &Line) -> String {
    let mut text = format!("[{name}]\n");
    let Some((_, matches)) = line.matches.subcommand() else {
        return text;
    };
    for (key, value) in table(command, matches, true) {
        let id = command
            .get_arguments()
            .find(|option| self::name(option) == Some(&key))
            .map_or(key.as_str(), |option| option.get_id().as_str());
        let from = match (line.given.value_source(id), matches.value_source(id)) {
            (Some(ValueSource::CommandLine), _) => "command line",
            (Some(ValueSource::EnvVariable), _) => "environment",
            (_, Some(ValueSource::CommandLine)) => line.from.as_deref().unwrap_or("file"),
            _ => "default",
        };
        let pair: Table = [(key, value)].into_iter().collect();
        // Strings, numbers and lists of them: TOML has them all.
        let pair = toml::to_string(&pair).unwrap_or_default();
        text.push_str(&format!("{:<40} # {from}\n", pair.trim_end()));
    }
    text
}

/// The options as they are, in a table; those that have no value are not in it.
#[must_use]
pub fn table(command: &Command, matches: &ArgMatches, defaults: bool) -> Table {
    let mut table = Table::new();
    for option in command.get_arguments() {
        let id = option.get_id().as_str();
        let (Some(name), Some(source)) = (name(option), matches.value_source(id)) else {
            continue;
        };
        let is_left_out = matches!(
            name,
            OPTION | "print-config" | "resume" | "help" | "verbose"
        );
        if is_left_out || (source == ValueSource::DefaultValue && !defaults) {
            continue;
        }
        if matches!(option.get_action(), ArgAction::SetTrue) {
            table.insert(name.to_owned(), Value::Boolean(matches.get_flag(id)));
            continue;
        }
        let values = matches.get_raw(id).into_iter().flatten();
        let mut values: Vec<Value> = values.map(written).collect();
        let value = match (option.get_action(), values.pop()) {
            (ArgAction::Append, last) => {
                values.extend(last);
                Value::Array(values)
            }
            (_, Some(last)) => last,
            (_, None) => continue,
        };
        table.insert(name.to_owned(), value);
    }
    table
}

/// What an option is called in a file.
fn name(option: &Arg) -> Option<&str> {
    match option.get_long() {
        Some(long) => Some(long),
        None if option.is_positional() => Some(WORDS),
        None => None,
    }
}

/// A value of the command line as TOML has it: numbers as numbers.
fn written(text: &OsStr) -> Value {
    let text = text.to_string_lossy();
    match text.parse::<i64>() {
        // "007" would come back as 7.
        Ok(number) if number.to_string() == *text => Value::Integer(number),
        _ => Value::String(text.into_owned()),
    }
}

/// The values of a key as they would be written on a command line.
fn texts(value: &Value) -> Option<Vec<String>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(switch) => Some(switch.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    };
    match value {
        Value::Array(values) => values.iter().map(one).collect(),
        value => one(value).map(|text| vec![text]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    use crate::cli::run::Arguments;

    fn command() -> Command {
        Arguments::augment_args(Command::new("run"))
    }

    fn parse(words: &[&str]) -> ArgMatches {
        let words = std::iter::once("run").chain(words.iter().copied());
        command().try_get_matches_from(words).unwrap()
    }

    fn merged(file: &str, words: &[&str]) -> Result<Arguments, Failure> {
        settled(command(), &[], file, words)
    }

    fn settled(
        command: Command,
        settled: &'static [&'static str],
        file: &str,
        words: &[&str],
    ) -> Result<Arguments, Failure> {
        let root = Command::new("insession").subcommand(command);
        let words = ["insession", "run"]
            .into_iter()
            .chain(words.iter().copied());
        let words: Vec<OsString> = words.map(OsString::from).collect();
        let table = toml::from_str(file).unwrap();
        let line = complete(&root, &words, |_, _| {
            Ok(Some(Source {
                table,
                from: "--config f".to_owned(),
                settled,
            }))
        })?;
        let (_, matches) = line.matches.subcommand().unwrap();
        Ok(Arguments::from_arg_matches(matches).unwrap())
    }

    #[test]
    fn the_command_line_beats_the_file_and_the_file_the_defaults() {
        let file = "rate = \"10k\"\nsessions = 7\nnumeric = true\nipv4 = false\noutput = [\"a.jsonl\", \"b.csv\"]\nwords = [\"10.0.0.1\"]";
        let both = merged(file, &["--sessions", "9", "-o", "c.jsonl"]).unwrap();
        assert_eq!(both.probing.rate, Some(10_000.0));
        assert_eq!(both.probing.sessions, 9);
        assert!(both.probing.numeric && !both.probing.ipv4);
        assert_eq!(both.output, [Path::new("c.jsonl")]);
        assert_eq!(both.words, ["10.0.0.1"]);
        assert_eq!(both.probing.asked().port, 443);
        let file = merged(file, &[]).unwrap();
        assert_eq!(file.output, [Path::new("a.jsonl"), Path::new("b.csv")]);
    }

    #[test]
    fn the_environment_has_no_say_in_what_is_settled() {
        // PATH is set wherever tests run; no test can set a variable of its own.
        let path = || {
            command().mut_args(|option| match option.get_id().as_str() {
                "targets" | "interface" | "exclude" => option.env("PATH"),
                _ => option,
            })
        };
        let ours = std::env::var("PATH").unwrap();
        let file = "targets = [\"list\"]\ninterface = \"eth0\"";
        let free = settled(path(), &[], file, &[]).unwrap();
        assert_eq!(free.targets, [Path::new(&ours)]);
        let held = settled(path(), &["targets", "exclude"], file, &[]).unwrap();
        assert_eq!(held.targets, [Path::new("list")]);
        assert_eq!(held.probing.interface.as_ref(), Some(&ours));
        assert!(held.exclude.is_empty(), "no file named one");
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let words = [
            "--rate",
            "2.5k",
            "--per-prefix",
            "24",
            "-6",
            "--exclude",
            "x",
            "--exclude",
            "y",
            "--seed",
            "7",
            "--grace",
            "3s",
            "one",
            "two",
        ];
        for defaults in [false, true] {
            let printed = table(&command(), &parse(&words), defaults);
            let again = merged(&toml::to_string(&printed).unwrap(), &[]).unwrap();
            let first = Arguments::from_arg_matches(&parse(&words)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{first:?}"));
            assert_eq!(printed.contains_key("max-ttl"), defaults);
        }
    }

    #[test]
    fn a_file_with_an_error_names_it() {
        for (file, message) in [
            ("colour = 1", "--config f: \"colour\": no such option"),
            ("numeric = 3", "--config f: \"numeric\": it is a switch"),
            (
                "rate = 2020-01-01",
                "--config f: \"rate\": a value of this kind",
            ),
            ("config = \"g\"", "--config f: \"config\": no such option"),
            ("resume = \"d\"", "--config f: \"resume\": no such option"),
        ] {
            let error = merged(file, &[]).unwrap_err();
            assert!(error.message.starts_with(message), "{}", error.message);
            assert_eq!(error.code, 2);
        }
    }

    #[test]
    fn every_option_has_a_variable() {
        for option in with_environment(command()).get_arguments() {
            let Some(long) = option.get_long() else {
                continue;
            };
            let variable = option.get_env().and_then(OsStr::to_str);
            let expected = format!("INSESSION_{}", long.replace('-', "_").to_uppercase());
            if !matches!(long, "help" | "print-config") {
                assert_eq!(variable, Some(expected.as_str()));
            }
        }
    }
}
