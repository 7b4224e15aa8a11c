//! Options of `insession graph`.

use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::cli::exit::Failure;
use crate::cli::value;
use crate::graph::Level;
use crate::graph::slice::{Slice, Targets};
use crate::report::civil;
use crate::time::UnixTime;
use crate::trace::Method;

/// Draw any number of results as one graph of paths
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Results as JSON lines (plain, gzip or Zstandard) or Parquet of ours; - for standard input
    #[arg(value_name = "RESULT", required = true)]
    pub(super) results: Vec<PathBuf>,
    /// Write the graph to FILE, the format by its name: .html (a page that needs nothing
    /// else), .graphml, .dot (.gv), .json; - for standard output; may be repeated
    #[arg(short, long, value_name = "FILE")]
    output: Vec<PathBuf>,
    /// Format of outputs whose names do not tell it
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Option<Format>,
    /// Only traces to TARGET: an address, a prefix, or the name that was traced; may be repeated
    #[arg(long, value_name = "TARGET", value_parser = targets)]
    target: Vec<Targets>,
    /// Only traces from ADDRESS, or from a prefix; may be repeated
    #[arg(long, value_name = "ADDRESS", value_parser = value::prefix)]
    source: Vec<IpNet>,
    /// Only traces with an answer from this AS; may be repeated
    #[arg(long = "as", value_name = "NUMBER", value_parser = asn)]
    ases: Vec<u32>,
    /// Only traces of this method; may be repeated
    #[arg(long, value_name = "METHOD", value_parser = method)]
    method: Vec<Method>,
    /// Only traces that were started at or after TIME: 2026-01-02, or 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<UnixTime>,
    /// Only traces that were started before TIME
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<UnixTime>,
    /// Join addresses into what they belong to; a page offers all that is known by itself
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub(super) collapse: Option<Level>,
    /// Which addresses are one router: JSON lines, insession.aliases/1
    #[arg(long, value_name = "FILE")]
    pub(super) aliases: Option<PathBuf>,
    /// Take what is at least this sure of --aliases
    #[arg(long, value_name = "PART", default_value_t = 0.9, value_parser = confidence)]
    pub(super) alias_confidence: f64,
    /// End at the first line that is no record
    #[arg(long)]
    pub(super) strict: bool,
}

/// As what a graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A page that needs nothing else
    Html,
    /// GraphML
    Graphml,
    /// Graphviz
    Dot,
    /// One JSON object (insession.graph/1)
    Json,
}

impl Format {
    fn of(path: &Path) -> Option<Format> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "html" | "htm" => Some(Format::Html),
            "graphml" => Some(Format::Graphml),
            "dot" | "gv" => Some(Format::Dot),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

impl Arguments {
    /// Where the graph goes, and as what.
    pub(super) fn outputs(&self) -> Result<Vec<(PathBuf, Format)>, Failure> {
        if self.output.is_empty() {
            let format = self.format.ok_or_else(|| {
                Failure::usage(
                    "--output: no file is named; name some, as -o graph.html, or a --format for standard output",
                )
            })?;
            return Ok(vec![("-".into(), format)]);
        }
        for (nth, path) in self.output.iter().enumerate() {
            if self.output.iter().take(nth).any(|other| other == path) {
                return Err(Failure::usage(format!(
                    "--output {}: named twice; name each file once",
                    path.display()
                )));
            }
        }
        let format = |path: &PathBuf| {
            let format = Format::of(path).or(self.format).ok_or_else(|| {
                Failure::usage(format!(
                    "--output {}: the name tells no format; name it .html, .graphml, .dot or .json, or give --format",
                    path.display()
                ))
            })?;
            Ok((path.clone(), format))
        };
        self.output.iter().map(format).collect()
    }

    /// Which traces are taken.
    pub(super) fn slice(&self) -> Slice {
        Slice {
            targets: self.target.clone(),
            sources: self.source.clone(),
            ases: self.ases.clone(),
            methods: self.method.clone(),
            since: self.since,
            until: self.until,
        }
    }

    /// What the results are called.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |path: &PathBuf| match path.as_os_str() == "-" {
            true => "standard input".to_owned(),
            false => path.display().to_string(),
        };
        self.results.iter().map(name).collect()
    }
}

fn targets(text: &str) -> Result<Targets, String> {
    let looks_like_a_net = text.contains('/') || text.parse::<std::net::IpAddr>().is_ok();
    match looks_like_a_net {
        true => value::prefix(text).map(Targets::Net),
        false if text.is_empty() => Err("no target; write an address, a prefix or a name".into()),
        false => Ok(Targets::Named(text.to_owned())),
    }
}

fn asn(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("AS").or(text.strip_prefix("as"));
    let number = digits.unwrap_or(text).parse();
    number.map_err(|_| "not an AS number; write 64500 or AS64500".to_owned())
}

fn method(text: &str) -> Result<Method, String> {
    let found = Method::ALL.into_iter().find(|it| it.as_str() == text);
    found.ok_or_else(|| {
        let known: Vec<_> = Method::ALL.iter().map(|it| it.as_str()).collect();
        format!("no such method; write one of {}", known.join(", "))
    })
}

fn moment(text: &str) -> Result<UnixTime, String> {
    let whole = match text.contains('T') {
        true => text.to_owned(),
        false => format!("{text}T00:00:00Z"),
    };
    civil::parse(&whole)
        .ok_or_else(|| "not a moment in UTC; write 2026-01-02 or 2026-01-02T03:04:05Z".to_owned())
}

fn confidence(text: &str) -> Result<f64, String> {
    let part = text.parse::<f64>().ok();
    let part = part.filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| "not from 0 to 1; write a part of one, as 0.9".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn line(words: &str) -> Result<Arguments, String> {
        let words = ["graph"].into_iter().chain(words.split_whitespace());
        Line::try_parse_from(words)
            .map(|it| it.arguments)
            .map_err(|error| error.to_string())
    }

    fn outputs(words: &str) -> Result<Vec<Format>, String> {
        let outputs = line(words)?.outputs().map_err(|it| it.message)?;
        Ok(outputs.into_iter().map(|it| it.1).collect())
    }

    #[test]
    fn names_tell_formats() {
        assert_eq!(
            outputs("r -o a.html -o b.graphml -o c.gv -o d.JSON -o e.dot"),
            Ok(vec![
                Format::Html,
                Format::Graphml,
                Format::Dot,
                Format::Json,
                Format::Dot
            ])
        );
        assert_eq!(outputs("r --format dot"), Ok(vec![Format::Dot]));
        assert_eq!(outputs("r -o - --format json"), Ok(vec![Format::Json]));
        for (words, why) in [
            ("r", "no file is named"),
            ("r -o a.png", "tells no format"),
            ("r -o a.dot -o a.dot", "named twice"),
        ] {
            let said = outputs(words).unwrap_err();
            assert!(said.contains(why), "{words}: {said}");
        }
    }

    #[test]
    fn slices_are_read() {
        let slice = line("r -o a.dot --target 10.0.0.0/8 --target www.example --source 10.0.0.1 --as AS64500 --as 1 --method paris-udp --since 2026-01-02 --until 2026-01-02T03:04:05Z")
            .unwrap()
            .slice();
        assert_eq!(slice.targets.len(), 2);
        assert_eq!(slice.targets[1], Targets::Named("www.example".to_owned()));
        assert_eq!(slice.ases, [64500, 1]);
        assert_eq!(slice.methods, [Method::ParisUdp]);
        let between = slice.until.unwrap().0 - slice.since.unwrap().0;
        assert_eq!(between, (3 * 3_600 + 4 * 60 + 5) * 1_000_000_000);
        for words in [
            "--target 10.0.0.1/8",
            "--as ASx",
            "--method smoke",
            "--since yesterday",
            "--alias-confidence 1.1",
            "--collapse village",
        ] {
            let said = line(&format!("r -o a.dot {words}")).unwrap_err();
            assert!(
                said.contains("write") || said.contains("possible"),
                "{said}"
            );
        }
    }
}
