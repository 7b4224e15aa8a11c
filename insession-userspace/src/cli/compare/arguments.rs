//! The options of `insession compare`.

use std::path::PathBuf;

use clap::ValueEnum as _;

use crate::cli::exit::Failure;
use crate::cli::probing::Probing;
use crate::cli::trace::arguments::When;
use crate::targets::spec::{self, TargetSpec};
use crate::trace::Method;

/// What `--method` stands at where nobody gave it.
const UNSAID: &str = "unsaid";

/// Trace the same targets by several methods, several times, and draw what each shows
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("method", |option| option
    .short(None)
    .hide(true)
    .default_value(UNSAID)
    .value_parser(one_method)))]
#[command(mut_arg("on_handshake_failure", |option| option.hide(true)))]
#[command(mut_arg("flows", |option| option.hide(true)))]
#[command(mut_arg("mda", |option| option.hide(true)))]
#[command(mut_arg("mda_confidence", |option| option.hide(true)))]
#[command(mut_arg("flows_max", |option| option.hide(true)))]
#[command(mut_arg("pcap", |option| option.hide(true)))]
pub struct Arguments {
    /// What to trace.
    #[arg(
        required_unless_present = "from",
        conflicts_with = "from",
        value_name = "TARGET",
        value_parser = spec::parse,
        help = "Host, address, host:port or [v6]:port"
    )]
    pub targets: Vec<TargetSpec>,

    /// The methods, as icmp,udp,insession [default: all but sidecar, which wants a server of HTTP]
    #[arg(short, long, value_enum, value_delimiter = ',', value_name = "METHOD")]
    pub methods: Vec<Method>,
    /// How often each target is traced by each method, one method after the other
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Let every run of a method that has one flow have the same one; otherwise each run has
    /// its own, and sees its own of several ways
    #[arg(long, conflicts_with = "from")]
    pub keep_flow: bool,
    /// Trace nothing: compare what is in these results (JSON lines, plain, gzip or Zstandard,
    /// or Parquet of ours; - for standard input)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub from: Vec<PathBuf>,
    /// The links that there are, where they are known: a line each, the address that answers
    /// first and the one that answers next
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,

    /// How targets are probed.
    #[command(flatten)]
    pub probing: Probing,

    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
    /// Also write one page with the pictures, which needs nothing else, to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also write the pictures to FILE, as SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Also write the pictures to FILE, as PNG
    #[arg(long, value_name = "FILE")]
    pub png: Option<PathBuf>,
    /// Also write the records of all runs to FILE, as JSON lines
    #[arg(short, long, value_name = "FILE", conflicts_with = "from")]
    pub output: Option<PathBuf>,
    /// End at the first line of a result that is no record
    #[arg(long, conflicts_with = "targets")]
    pub strict: bool,
    /// Show progress on standard error; auto: on a terminal
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub progress: When,
}

/// Says that there is no one method here.
fn one_method(value: &str) -> Result<Method, String> {
    match value {
        UNSAID => Ok(Method::InSession),
        value => Err(format!("there are several here; write --methods {value}")),
    }
}

impl Arguments {
    /// The methods in the order in which they run, each once.
    #[must_use]
    pub fn methods(&self) -> Vec<Method> {
        let wanted = |method: &Method| match self.methods.as_slice() {
            [] => *method != Method::Sidecar,
            named => named.contains(method),
        };
        let all = Method::value_variants();
        all.iter().copied().filter(wanted).collect()
    }

    /// Checks what no other place does.
    ///
    /// # Errors
    /// A usage error that names input, reason and mend.
    pub fn check(&self) -> Result<(), Failure> {
        if self.probing.pcap.is_some() {
            return Err(Failure::usage(
                "--pcap: each method of each run would begin the file anew; trace by one method to record its frames",
            ));
        }
        if self.probing.request.is_some() && !self.methods().contains(&Method::Sidecar) {
            return Err(Failure::usage(
                "--request: only sidecar carries one; name it among --methods, or leave it out",
            ));
        }
        if self.probing.on_handshake_failure.is_some() {
            return Err(Failure::usage(
                "--on-handshake-failure: a run by another method would count as that one's; leave it out",
            ));
        }
        if self.probing.mtu {
            return Err(Failure::usage(
                "--mtu: no two methods could be held against each other by it; use insession trace --mtu",
            ));
        }
        if self.probing.many.flows > 1 || self.probing.many.mda {
            return Err(Failure::usage(
                "--flows, --mda: here each run is a flow more, of each method; raise --runs",
            ));
        }
        let files = [
            ("--html", &self.html),
            ("--svg", &self.svg),
            ("--png", &self.png),
            ("--output", &self.output),
        ];
        let named: Vec<_> = files
            .iter()
            .filter_map(|(option, path)| Some((*option, path.as_ref()?)))
            .collect();
        for (nth, (option, path)) in named.iter().enumerate() {
            if named.iter().take(nth).any(|(_, other)| other == path) {
                return Err(Failure::usage(format!(
                    "{option} {}: named twice; name each file once",
                    path.display()
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        let words = [&["compare"], words].concat();
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(line.arguments)
    }

    #[test]
    fn all_methods_but_the_one_that_wants_something_said() {
        let arguments = parse(&["10.0.0.1"]).unwrap();
        let methods = arguments.methods();
        assert_eq!(methods.len(), Method::value_variants().len() - 1);
        assert!(!methods.contains(&Method::Sidecar));
        assert_eq!(arguments.runs, 10);
    }

    #[test]
    fn methods_are_named_once_in_one_order() {
        let arguments = parse(&["-m", "udp,insession", "-m", "udp", "10.0.0.1"]).unwrap();
        assert_eq!(arguments.methods(), [Method::InSession, Method::Udp]);
    }

    #[test]
    fn one_method_is_refused_and_told_how_to_write_it() {
        let error = parse(&["--method", "icmp", "10.0.0.1"]).unwrap_err();
        assert!(error.contains("write --methods icmp"), "{error}");
    }

    #[test]
    fn results_take_the_place_of_targets() {
        assert_eq!(parse(&["--from", "a", "b"]).unwrap().from.len(), 2);
        for words in [
            &[][..],
            &["10.0.0.1", "--from", "a"],
            &["10.0.0.1", "--strict"],
            &["--from", "a", "-o", "b"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_named() {
        for (words, start) in [
            (&["10.0.0.1", "--pcap", "x"][..], "--pcap: "),
            (&["10.0.0.1", "--flows", "2"], "--flows, --mda: "),
            (&["10.0.0.1", "--mda"], "--flows, --mda: "),
            (&["10.0.0.1", "--request", "http"], "--request: only "),
            (
                &["10.0.0.1", "--on-handshake-failure", "tcp"],
                "--on-handshake-failure: ",
            ),
            (
                &["10.0.0.1", "--svg", "x", "-o", "x"],
                "--output x: named twice",
            ),
        ] {
            let failure = parse(words).unwrap().check().unwrap_err();
            assert_eq!(failure.code, 2);
            assert!(failure.message.starts_with(start), "{}", failure.message);
        }
    }
}
