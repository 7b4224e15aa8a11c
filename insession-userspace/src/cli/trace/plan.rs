//! What the options of `insession trace` mean together: checked once, before
//! anything is opened.

use std::path::{Path, PathBuf};

use super::arguments::Arguments;
use crate::cli::exit::Failure;
use crate::cli::probing::{LinkName, Probing, sidecar};
use crate::dns::Family;
use crate::multipath::flows::FlowsOptions;
use crate::report::Format;
use crate::session::{Flow, SessionOptions};
use crate::targets::spec::{self, TargetSpec};
use crate::trace::Method;

/// Where results go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// Format on standard output; `None`: nothing goes there.
    pub stdout: Option<Format>,
    /// A file, and its format.
    pub file: Option<(PathBuf, Format)>,
}

/// Options that were found consistent.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which addresses of a name are traced.
    pub family: Family,
    /// What sessions have in common.
    pub session: SessionOptions,
    /// How many flows a target gets, where it is not just one.
    pub flows: Option<FlowsOptions>,
    /// Where results go.
    pub outputs: Outputs,
}

impl Plan {
    /// Checks the options.
    ///
    /// # Errors
    /// A usage error that names input, reason and mend.
    pub fn new(arguments: &Arguments) -> Result<Plan, Failure> {
        let probing = &arguments.probing;
        if let Some(flow) = &arguments.adopt {
            adopts(flow, probing)?;
        }
        let session = probing.session()?;
        let family = probing.family()?;
        for target in &arguments.targets {
            probing.fits(target, family)?;
        }
        Ok(Plan {
            family,
            session,
            flows: probing.flows()?,
            outputs: outputs(arguments)?,
        })
    }
}

/// The other end of a connection that is adopted, as the one target.
///
/// # Errors
/// That it cannot be traced.
pub fn adopted(flow: &Flow) -> Result<TargetSpec, Failure> {
    spec::parse(&flow.remote.to_string()).map_err(|error| sidecar::refused(flow, &error))
}

/// What does not go together with a running connection.
fn adopts(flow: &Flow, probing: &Probing) -> Result<(), Failure> {
    let why = if probing.method != Method::Sidecar {
        format!(
            "--method {} opens a flow of its own; add --method sidecar",
            probing.method.as_str()
        )
    } else if probing.over.link == LinkName::Xdp {
        "XDP sees but what arrives, and would take it from its connection; leave --link out".into()
    } else {
        return Ok(());
    };
    Err(sidecar::refused(flow, &why))
}

fn outputs(arguments: &Arguments) -> Result<Outputs, Failure> {
    let file = arguments
        .output
        .as_deref()
        .filter(|path| *path != Path::new("-"));
    if file.is_some_and(|path| path.as_os_str().is_empty()) {
        return Err(Failure::usage(
            "--output \"\": an empty name; write a file's, or - for standard output",
        ));
    }
    match (file, arguments.json, arguments.format) {
        (None, true, Some(Format::Text)) => Err(Failure::usage(
            "--format text: --json asks for JSON on standard output; leave one of them out, or name a file with -o",
        )),
        (None, true, _) => Ok(Outputs {
            stdout: Some(Format::Json),
            file: None,
        }),
        (None, false, format) => Ok(Outputs {
            stdout: Some(format.unwrap_or(Format::Text)),
            file: None,
        }),
        (Some(path), json, format) => Ok(Outputs {
            stdout: json.then_some(Format::Json),
            file: Some((path.to_owned(), format.unwrap_or(Format::Json))),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::CloseMode;
    use crate::time::Duration;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        let words = std::iter::once("trace").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.arguments)
    }

    fn plan(line: &str) -> Result<Plan, Failure> {
        Plan::new(&parse(line).unwrap())
    }

    #[test]
    fn the_contracts_defaults() {
        let arguments = parse("www.example").unwrap();
        assert_eq!(arguments.probing.asked().port, 443);
        assert_eq!(arguments.probing.rate, None);
        let plan = Plan::new(&arguments).unwrap();
        assert_eq!(plan.family, Family::Any);
        assert_eq!(plan.session, SessionOptions::default());
        assert_eq!(plan.outputs.stdout, Some(Format::Text));
        assert_eq!(plan.outputs.file, None);
        assert_eq!(plan.flows, None);
        let many = |flows, confidence| {
            Some(FlowsOptions {
                flows,
                confidence,
                most: 1024,
            })
        };
        assert_eq!(
            super::tests::plan("--flows 8 host").unwrap().flows,
            many(8, None)
        );
        assert_eq!(
            super::tests::plan("--mda host").unwrap().flows,
            many(1, Some(0.95))
        );
    }

    #[test]
    fn every_option_by_its_letter_and_by_its_name() {
        for line in [
            "-m insession -4 -p 80 -i eth0 -s 10.0.0.1 --source-ports 61000-62000 -f 2 -M 20 -q 1 \
             -w 500ms --handshake-timeout 3s --gap-limit 5 --dscp cs1 --rate 10k --link xdp \
             --xdp-mode native --zero-copy off --close fin -n -o out --format text --json \
             --pcap out.pcapng --sessions 7 --progress never www.example",
            "--method insession -4 --port 80 --interface eth0 --source 10.0.0.1 \
             --source-ports 61000-62000 --first-ttl 2 --max-ttl 20 --probes 1 --timeout 500ms \
             --handshake-timeout 3s --gap-limit 5 --dscp 8 --rate 10000 --link xdp \
             --xdp-mode native --zero-copy off --close fin -n --output out --format text --json \
             --pcap out.pcapng --sessions 7 --progress never www.example",
        ] {
            let arguments = parse(line).unwrap();
            assert_eq!(arguments.probing.port, Some(80));
            assert_eq!(arguments.probing.interface.as_deref(), Some("eth0"));
            assert_eq!(arguments.probing.source_ports, Some(61000..=62000));
            assert_eq!(arguments.probing.rate, Some(10_000.0));
            assert_eq!(arguments.probing.sessions, 7);
            assert!(arguments.probing.numeric);
            assert_eq!(
                arguments.probing.pcap.as_deref(),
                Some(Path::new("out.pcapng"))
            );
            let plan = Plan::new(&arguments).unwrap();
            assert_eq!(plan.family, Family::V4);
            assert_eq!(
                plan.session,
                SessionOptions {
                    first_ttl: 2,
                    max_ttl: 20,
                    probes: 1,
                    probe_timeout: Duration::from_millis(500),
                    handshake_timeout: Duration::from_secs(3),
                    gap_limit: 5,
                    close: CloseMode::Fin,
                    dscp: 8,
                    ..SessionOptions::default()
                }
            );
            assert_eq!(
                plan.outputs,
                Outputs {
                    stdout: Some(Format::Json),
                    file: Some(("out".into(), Format::Text)),
                }
            );
        }
    }

    #[test]
    fn bad_lines_are_usage_errors_of_clap() {
        for line in [
            "",
            "-4 -6 host",
            "-p 0 host",
            "-f 0 host",
            "-M 256 host",
            "-q 0 host",
            "--flows 0 host",
            "--mda-confidence 1.5 host",
            "-w 0 host",
            "--sessions 0 host",
            "-m smoke-signal host",
            "--link wifi host",
            "--format xml host",
            "host:99999",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_told_with_its_mend() {
        for (line, message) in [
            (
                "-m icmp --on-handshake-failure udp host",
                "--on-handshake-failure udp: --method icmp opens no sessions; leave it out",
            ),
            (
                "--on-handshake-failure insession host",
                "--on-handshake-failure insession: insession needs a handshake, too; name a method that needs none",
            ),
            (
                "-m udp --flows 4 host",
                "--flows: by --method udp each probe is a flow of its own; use --method paris-udp, or insession",
            ),
            (
                "--mda --flows 40 --flows-max 30 host",
                "--flows 40: it is above --flows-max 30; lower the one or raise the other",
            ),
            (
                "-f 9 -M 8 host",
                "--first-ttl 9: it is above --max-ttl 8; lower the one or raise the other",
            ),
            (
                "--close fin --link packet host",
                "--close fin: on the packet link the kernel owns the connections, and closes them by RST; use --close rst, or --link xdp",
            ),
            (
                "-4 2001:db8::1",
                "2001:db8::1: it is IPv6, but -4 was given; leave one of them out",
            ),
            (
                "-6 10.0.0.1:80",
                "10.0.0.1:80: it is IPv4, but -6 was given; leave one of them out",
            ),
            (
                "-s 10.0.0.1 -6 host",
                "--source 10.0.0.1: it is IPv4, but -6 was given; leave one of them out",
            ),
            (
                "-s ::1 10.0.0.1",
                "10.0.0.1: it is IPv4, but --source ::1 was given; leave one of them out",
            ),
            (
                "-s 0.0.0.0 host",
                "--source 0.0.0.0: no host has this address; name one of this machine's",
            ),
            (
                "--json --format text host",
                "--format text: --json asks for JSON on standard output; leave one of them out, or name a file with -o",
            ),
        ] {
            assert_eq!(plan(line), Err(Failure::usage(message)), "{line}");
        }
    }

    #[test]
    fn results_go_where_they_were_asked_to() {
        let json = Some(Format::Json);
        let text = Some(Format::Text);
        let file = |format| Some((PathBuf::from("f"), format));
        for (line, stdout, to_file) in [
            ("host", text, None),
            ("--json host", json, None),
            ("--format json host", json, None),
            ("-o - host", text, None),
            ("-o - --json host", json, None),
            ("-o f host", None, file(Format::Json)),
            ("-o f --format text host", None, file(Format::Text)),
            ("-o f --json host", json, file(Format::Json)),
        ] {
            let expected = Outputs {
                stdout,
                file: to_file,
            };
            assert_eq!(plan(line).unwrap().outputs, expected, "{line}");
        }
    }
}
